"""The terminal while `sigil top` has it: the other screen, keys without Enter, and signals. It is always given back."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import termios
import tty
from collections.abc import Iterator, Sequence
from typing import Any

from rich.console import Console
from rich.text import Text

_ENDS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# A terminal that takes no output must not keep the process from ending.
_END_SECONDS = 2.0
_LEAVE = b"\x1b[?25h\x1b[?1049l"
_HOME, _ERASE_LINE, _ERASE_BELOW, _BREAK = "\x1b[H", "\x1b[2K", "\r\n\x1b[J", "\r\n"


class Terminal:
    """`ended_by` is the signal that ends the command, or None. `lost` is whether the screen has to be drawn again."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._input = sys.stdin.fileno() if sys.stdin is not None and sys.stdin.isatty() else None
        self._saved: list[Any] | None = None
        self._suspend = False
        self.ended_by: int | None = None
        self.lost = False

    @contextlib.contextmanager
    def taken(self) -> Iterator[Terminal]:
        before = {number: signal.getsignal(number) for number in (*_ENDS, signal.SIGTSTP, signal.SIGALRM)}
        self._saved = None if self._input is None else termios.tcgetattr(self._input)
        for number in _ENDS:
            signal.signal(number, self._end)
        signal.signal(signal.SIGTSTP, self._stop)
        signal.signal(signal.SIGALRM, self._give_up)
        try:
            self._enter()
            yield self
        finally:
            self._leave()
            signal.setitimer(signal.ITIMER_REAL, 0)
            for number, handler in before.items():
                signal.signal(number, handler)

    def show(self, lines: Sequence[Text]) -> None:
        """In one write, over what is there, so that nothing flickers."""
        self.lost = False
        with self._console.capture() as captured:
            for line in lines:
                self._console.print(line, no_wrap=True, overflow="crop", crop=True)
        rows = captured.get().split("\n")[:-1]
        # Erased before it is written: after a row of full width, that would erase its last character.
        rows = [f"{_ERASE_LINE}{row}" for row in rows]
        with contextlib.suppress(OSError, ValueError):
            self._console.file.write(
                f"{_HOME}{_BREAK.join(rows)}{_ERASE_BELOW if len(rows) < self._console.height else ''}"
            )
            self._console.file.flush()

    def key(self, seconds: float) -> str:
        """The next key, or "" after `seconds` or a return from the background."""
        if self._suspend:
            self._background()
            return ""
        readable = select.select([] if self._input is None else [self._input], [], [], seconds)[0]
        if not readable or self._input is None:
            return ""
        with contextlib.suppress(OSError):
            if pressed := os.read(self._input, 64):
                return pressed.decode(errors="replace")
        # The terminal is gone, without a signal.
        self.ended_by = self.ended_by or signal.SIGHUP
        return ""

    def _enter(self) -> None:
        if self._input is not None:
            tty.setcbreak(self._input, termios.TCSANOW)
        self._console.set_alt_screen(True)
        self._console.show_cursor(False)

    def _leave(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._console.show_cursor(True)
            self._console.set_alt_screen(False)
        self._restore()

    def _restore(self) -> None:
        if self._input is not None and self._saved is not None:
            with contextlib.suppress(termios.error):
                termios.tcsetattr(self._input, termios.TCSANOW, self._saved)

    def _background(self) -> None:
        self._suspend = False
        self._leave()
        # The handler of SIGTSTP replaced the default one.
        os.kill(os.getpid(), signal.SIGSTOP)
        self._enter()
        self.lost = True

    def _end(self, number: int, _frame: object) -> None:
        self.ended_by = number
        signal.setitimer(signal.ITIMER_REAL, _END_SECONDS)
        # Ctrl-S may hold the output.
        if self._input is not None:
            with contextlib.suppress(termios.error):
                termios.tcflow(self._input, termios.TCOON)

    def _stop(self, _number: int, _frame: object) -> None:
        self._suspend = True

    def _give_up(self, _number: int, _frame: object) -> None:
        if self._input is not None:
            with contextlib.suppress(termios.error):
                termios.tcflush(self._input, termios.TCOFLUSH)
            self._restore()
            with contextlib.suppress(OSError):
                os.set_blocking(self._input, False)
                os.write(self._input, _LEAVE)
                os.set_blocking(self._input, True)
        os._exit(128 + (self.ended_by or signal.SIGTERM))
