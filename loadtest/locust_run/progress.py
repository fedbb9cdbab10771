"""How far a run is: a line that is rewritten on a terminal, elsewhere a line every ten seconds."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as Bar

from loadtest.locust_run.outcome import Live

_LINE_SECONDS = 10.0


class Progress:
    """Context manager on standard error: standard output has the results alone. `seconds` is the length of the run."""

    def __init__(self, seconds: int, console: Console | None = None) -> None:
        self._seconds = seconds
        self._console = Console(stderr=True) if console is None else console
        self._bar = Bar(
            TextColumn("  {task.completed:.0f} of {task.total:.0f} s"),
            BarColumn(bar_width=20),
            TextColumn("{task.description}", markup=False),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )
        self._task = self._bar.add_task("starts", total=seconds)
        self._next_line = time.monotonic() + _LINE_SECONDS

    def __enter__(self) -> Progress:
        self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, fault: BaseException | None, at: TracebackType | None) -> None:
        self._bar.stop()

    def show(self, live: Live | None) -> None:
        if live is None:
            return
        done = min(live.seconds, self._seconds)
        text = f"{live.rate:.0f}/s   p50 {live.p50:.0f} ms   p99 {live.p99:.0f} ms   errors {live.errors}"
        self._bar.update(self._task, completed=done, description=text)
        if not self._console.is_terminal and time.monotonic() >= self._next_line:
            self._next_line = time.monotonic() + _LINE_SECONDS
            self._console.print(
                f"  {done} of {self._seconds} s   {text}", markup=False, highlight=False, soft_wrap=True
            )
