"""`sigil top`: scrapes, and shows the figures until a key or a signal ends it."""

from __future__ import annotations

import os
import shutil
import sys
import time
from dataclasses import dataclass, field

from rich.console import Console
from rich.text import Text

from sigil.console.style import draws_blocks, wants_colour
from sigil.serving.bounded.calls import Call
from sigil.status import layout
from sigil.status.figures import Table
from sigil.status.history import History
from sigil.status.layout import Connection
from sigil.status.scrape import Exposition, Source, Unreadable
from sigil.status.terminal import Terminal

_NOT_OURS = "the answer has no metrics of Sigil: check the address"
_TICK = 0.25
# A scrape is bounded, but for files of a network file system that hangs.
_LONGEST = 15.0


@dataclass
class Attempts:
    """Scrapes in a thread of their own, one at a time, so that keys work while a server does not answer."""

    source: Source
    history: History
    interval: float
    fault: str = ""
    good_at: float | None = None
    clock: str = ""
    _call: Call[Exposition] | None = field(default=None, repr=False)
    _began: float = 0.0
    _due: float = 0.0

    def step(self) -> bool:
        """Starts what is due and takes what has ended. Whether there is anything new."""
        now = time.monotonic()
        if self._call is None:
            if now >= self._due:
                self._call, self._began = Call(self.source.read), now
            return False
        if not self._call.ended:
            if now - self._began < _LONGEST or self.fault:
                return False
            self.fault = "no answer: the server, or a file of the settings, hangs"
            return True
        call, self._call = self._call, None
        self._due = self._began + self.interval
        try:
            self.take(call.result())
        except Unreadable as error:
            self.fault, self._due = str(error), now + max(self.interval, error.pause)
        return True

    def take(self, answer: Exposition) -> None:
        """Unreadable."""
        if not self.history.add(answer.text, time.monotonic(), answer.now):
            raise Unreadable(_NOT_OURS)
        self.fault, self.good_at, self.clock = "", time.monotonic(), time.strftime("%H:%M:%S")

    def connection(self) -> Connection:
        age = None if self.good_at is None else time.monotonic() - self.good_at
        state = f"{self.clock}, every {self.interval:g} s, q quits" if self.clock else "connecting, q quits"
        return Connection(self.source.base, state, self.fault, age)


def live(source: Source, table: Table, interval: float) -> int:
    """Until q or a signal; the exit code."""
    attempts = Attempts(source, History(table), interval)
    console = _console()
    with Terminal(console).taken() as terminal:
        drawn: tuple[float, os.terminal_size | None] = (0.0, None)
        while terminal.ended_by is None:
            news, size = attempts.step(), shutil.get_terminal_size()
            # The age of old figures goes on.
            if news or terminal.lost or size != drawn[1] or time.monotonic() - drawn[0] >= 1.0:
                terminal.show(_lines(table, attempts, size))
                drawn = time.monotonic(), size
            if terminal.key(_TICK) in {"q", "Q"}:
                return 0
        return 128 + terminal.ended_by


def once(source: Source, table: Table, interval: float) -> Attempts:
    """Two scrapes; Unreadable."""
    attempts = Attempts(source, History(table), interval)
    attempts.take(_answer(source))
    time.sleep(interval)
    attempts.take(_answer(source))
    return attempts


def print_listing(table: Table, attempts: Attempts) -> None:
    console = _console()
    connection = attempts.connection()._replace(state="")
    for line in layout.listing(table, attempts.history, connection, max(40, console.width)):
        console.print(line, no_wrap=True, overflow="ignore", crop=False)


def as_json(table: Table, attempts: Attempts) -> dict[str, object]:
    """`value` is null where there is none."""
    readings = attempts.history.readings
    return {
        "url": attempts.source.base,
        "figures": {
            figure.id: {
                "label": figure.label,
                "kind": figure.kind,
                "unit": figure.unit,
                **readings[figure.id]._asdict(),
            }
            for figure in table.figures()
        },
        "attention": [figure.id for figure, _ in layout.attention(table, attempts.history)],
    }


def _answer(source: Source) -> Exposition:
    call = Call(source.read)
    if not call.wait(_LONGEST):
        raise Unreadable("no answer: the server, or a file of the settings, hangs")
    return call.result()


def _lines(table: Table, attempts: Attempts, size: os.terminal_size) -> list[Text]:
    return layout.screen(
        table,
        attempts.history,
        attempts.connection(),
        width=max(1, size.columns),
        height=max(1, size.lines),
        utf8=draws_blocks(sys.stdout),
    )


def _console() -> Console:
    colour = wants_colour(sys.stdout)
    return Console(
        file=sys.stdout,
        force_terminal=True if colour else None,
        color_system="standard" if colour else None,
        highlight=False,
        markup=False,
        emoji=False,
        legacy_windows=False,
    )
