"""The seconds that are left, on the terminal, while a command waits for an answer.

with countdown("Waiting for the answer", seconds=60):
    result = client.wait(...)
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

from sigil.console.style import is_terminal

_SAVE, _RESTORE, _CLEAR_LINE = "\x1b7", "\x1b8", "\x1b[K"
# A terminal that takes nothing (Ctrl-S) must not hold up the command.
_END_SECONDS = 1.0


@contextmanager
def countdown(text: str, seconds: float, stream: TextIO | None = None) -> Iterator[None]:
    """Shows `text` and the seconds left on a line of its own of standard error, and removes that line at the end.

    It shows nothing where standard error is no terminal.
    """
    ends = time.monotonic() + seconds

    def line() -> str:
        shown = f"{text}: {_left(ends)} s"
        return f"\r{shown[: shutil.get_terminal_size().columns - 1]}{_CLEAR_LINE}"

    with _ticking(line, f"\r{_CLEAR_LINE}", stream):
        yield


@contextmanager
def countdown_before_prompt(seconds: float, stream: TextIO | None = None) -> Iterator[str]:
    """Gives the beginning of a prompt, the seconds left, and rewrites it in place while the prompt is open.

    It is empty where standard error is no terminal. What was typed stays.
    """
    if not is_terminal(sys.stderr if stream is None else stream):
        yield ""
        return
    ends = time.monotonic() + seconds

    def prefix() -> str:
        return f"[{_left(ends):>3} s] "

    with _ticking(lambda: f"{_SAVE}\r{prefix()}{_RESTORE}", "", stream, first=False):
        yield prefix()


def _left(ends: float) -> int:
    return max(0, round(ends - time.monotonic()))


@contextmanager
def _ticking(line: Callable[[], str], last: str, stream: TextIO | None, *, first: bool = True) -> Iterator[None]:
    stream = sys.stderr if stream is None else stream
    if not is_terminal(stream):
        yield
        return
    stopped = threading.Event()
    thread = threading.Thread(target=_tick, args=(stream, line, stopped, first), name="countdown", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join(_END_SECONDS)
        if last and not thread.is_alive():
            _show(stream, last)


def _tick(stream: TextIO, line: Callable[[], str], stopped: threading.Event, first: bool) -> None:
    if first:
        _show(stream, line())
    while not stopped.wait(1.0):
        _show(stream, line())


def _show(stream: TextIO, text: str) -> None:
    with contextlib.suppress(OSError, ValueError):
        # A background job that writes to its terminal may be stopped for it.
        if os.tcgetpgrp(stream.fileno()) == os.getpgrp():
            stream.write(text)
            stream.flush()
