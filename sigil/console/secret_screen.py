"""A screen for a secret, of which neither the terminal's main screen nor its scrollback keeps a line."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import click

# GNU screen ignores the alternate screen by default, and so does tmux with `alternate-screen off`. Clearing the whole
# screen moves its lines to their scrollback: right for what was there, wrong for the secret, which is erased by line.
_ENTER, _LEAVE = "\x1b[?1049h\x1b[2J\x1b[H", "\x1b[H\x1b[?1049l"


@contextmanager
def secret_screen() -> Iterator[None]:
    click.echo(_ENTER, nl=False)
    try:
        yield
    finally:
        rows = shutil.get_terminal_size().lines
        erased = "".join(f"\x1b[{row};1H\x1b[2K" for row in range(1, rows + 1))
        click.echo(f"{erased}{_LEAVE}", nl=False)


def inside_multiplexer() -> str | None:
    """The program between this command and the terminal, whose own copy of the screen a resize can shift."""
    term = os.environ.get("TERM", "")
    if os.environ.get("TMUX") or term.startswith("tmux"):
        return "tmux"
    if os.environ.get("STY") or term.startswith("screen"):
        return "GNU screen"
    return None


def fits(rows: int, columns: int) -> bool:
    """Whether the terminal shows so much without scrolling."""
    size = shutil.get_terminal_size()
    return size.lines >= rows and size.columns >= columns
