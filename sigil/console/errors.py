"""The form of an error of a command: `program: what is wrong, and what to do`, on one line of standard error."""

from __future__ import annotations

import sys

from sigil.console.style import styled


def write_error(program: str, text: str) -> None:
    if sys.stderr is not None:
        sys.stderr.write(f"{styled(f'{program}:', 'bad', sys.stderr)} {text}\n")


def write_warning(text: str) -> None:
    if sys.stderr is not None:
        sys.stderr.write(f"{styled('warning:', 'notice', sys.stderr)} {text}\n")
