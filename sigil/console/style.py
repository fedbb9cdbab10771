"""Colours on a terminal, and nowhere else: NO_COLOR turns them off, FORCE_COLOR turns them on for pipes and files."""

from __future__ import annotations

import codecs
import os
from typing import Literal, TextIO

Style = Literal["good", "bad", "notice", "label"]

_CODES: dict[Style, str] = {"good": "32", "bad": "31", "notice": "33", "label": "2"}


def styled(text: str, style: Style, stream: TextIO | None) -> str:
    """`text`, in colour when `stream` takes colours."""
    return colour(text, style) if wants_colour(stream) else text


def colour(text: str, style: Style) -> str:
    return f"\x1b[{_CODES[style]}m{text}\x1b[0m"


def wants_colour(stream: TextIO | None) -> bool:
    """Both variables count when they are not empty (https://no-color.org, https://force-color.org)."""
    if stream is None or os.environ.get("NO_COLOR"):
        return False
    return bool(os.environ.get("FORCE_COLOR")) or is_terminal(stream)


def is_terminal(stream: TextIO | None) -> bool:
    """Whether `stream` is a terminal that moves its cursor and shows colours."""
    try:
        return stream is not None and stream.isatty() and os.environ.get("TERM", "dumb") not in ("", "dumb")
    except ValueError:  # It is closed.
        return False


def draws_blocks(stream: TextIO) -> bool:
    """Whether `stream` shows block elements such as U+2583: the fonts of the Linux console lack most of them."""
    try:
        utf8 = codecs.lookup(stream.encoding or "ascii").name == "utf-8"
    except LookupError:
        return False
    return utf8 and os.environ.get("TERM") != "linux"
