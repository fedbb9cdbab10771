"""Standard input, output and error of a process that was started without them."""

from __future__ import annotations

import fcntl
import os
import sys
from typing import TextIO, cast

# Standard output is opened for reading, so that a write fails: a command that prints a secret to nowhere must not
# succeed, and a service reports that its log is lost.
_MODES = {0: os.O_RDONLY, 1: os.O_RDONLY, 2: os.O_WRONLY}


def open_standard_descriptors() -> None:
    """Open those of 0, 1 and 2 that are closed, on /dev/null; call it before anything else is opened.

    Otherwise a listening socket, a lock or a database becomes "standard output", and log lines are written into it.
    """
    for number, mode in _MODES.items():
        try:
            os.fstat(number)
        except OSError:
            # The lowest free number: all below it are open.
            os.open(os.devnull, mode)
            os.set_inheritable(number, True)
    # Python has None in place of a stream that was closed.
    sys.stdin = cast("TextIO | None", sys.stdin) or _stream(0, "r")
    sys.stdout = cast("TextIO | None", sys.stdout) or _stream(1, "w")
    sys.stderr = cast("TextIO | None", sys.stderr) or _stream(2, "w")


def can_be_written(number: int) -> bool:
    """False for a descriptor that is closed, or that was closed when the process started."""
    try:
        return fcntl.fcntl(number, fcntl.F_GETFL) & os.O_ACCMODE != os.O_RDONLY
    except OSError:
        return False


def _stream(number: int, mode: str) -> TextIO:
    return cast(
        TextIO, os.fdopen(number, mode, buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)
    )
