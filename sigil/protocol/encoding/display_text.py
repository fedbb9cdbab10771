"""Text for people: which characters it may hold, by the tables of one Unicode version (docs/protocol.md, 2.5).

A text must show all of itself: it has no character that drives a terminal, reorders other text, starts a line or shows
nothing.
"""

from __future__ import annotations

import re
from functools import cache

from sigil.protocol.encoding import unicode_tables

MAX_MARKS = 4
"""Marks on one character: living languages need no more, and 60 stacked accents cover the lines above."""

# One letter per class of code points. A later table overrides an earlier one.
_CLASSES = (
    ("G", unicode_tables.GRAPHIC),
    ("B", unicode_tables.BLANK),
    ("M", unicode_tables.MARK),
    ("V", unicode_tables.MARK_VIRAMA),
    ("W", unicode_tables.SPACING_VIRAMA),
    ("L", unicode_tables.JOINS_NEXT),
    ("R", unicode_tables.JOINS_PREVIOUS),
    ("D", unicode_tables.JOINS_BOTH),
    ("E", unicode_tables.EMOJI),
    ("S", "1f3fb-1f3ff"),  # skin tones
    ("K", "23 2a 30-39"),  # keycaps: # * 0-9
    ("C", "20e3"),  # the mark that makes a keycap
    ("N", "200c"),  # zero width non-joiner
    ("Z", "200d"),  # zero width joiner
    ("P", "fe0f"),  # emoji presentation
    ("T", "fe0e"),  # text presentation
)
_BEYOND = 0x40000  # No displayable character comes after plane 3.
_EMOJI, _MARKS = "E(?:P|S(?:[ZN](?=[VW]))?)?", f"[MVC]{{0,{MAX_MARKS}}}"
_UNITS = "|".join(
    (
        "B",
        # Persian separates letters that would join (RFC 5892, A.1), and many writers put the same character behind
        # letters that never join the next one.
        f"[LRD]{_MARKS}N(?=[LRD])",
        # UAX 29, GB11: a sequence of emoji. RFC 5892, A.1 and A.2: Indic joiners after a virama; Bengali writes one
        # before it, too.
        f"(?:(?<!Z)ET|{_EMOJI}(?:Z{_EMOJI})*|KP(?=C)|[GLRDSKW](?:[ZN](?=[VW]))?){_MARKS}(?:(?<=[VW])[ZN](?![MVC]))?",
    )
)
# Atomic and possessive: without backtracking, the time is linear.
_displayable = re.compile(f"(?>{_UNITS})*+")


def problem_of(text: str) -> str | None:
    """The reason why a text must not be shown to a person, with the place in it; None when it may be shown."""
    # Nearly every text is ASCII. That takes 0.1 µs, and needs no tables.
    if text.isascii() and text.isprintable():
        return None if text.strip(" ") else _NOTHING_VISIBLE
    classes = text.translate(_class_of_code())
    found = _displayable.match(classes)
    end = found.end() if found else 0
    if end < len(text):
        return f"character {end + 1} (U+{ord(text[end]):04X}) cannot be displayed there"
    return None if classes.strip("B") else _NOTHING_VISIBLE


def printable(text: str) -> str:
    """For a terminal: a text that is not displayable, with every character that is not escaped as \\u{hex}."""
    if problem_of(text) is None:
        return text
    classes, parts, start = text.translate(_class_of_code()), [], 0
    while start < len(text):
        found = _displayable.match(classes, start)
        end = found.end() if found else start
        parts += [text[start:end], *(f"\\u{{{ord(char):x}}}" for char in text[end : end + 1])]
        start = end + 1
    return "".join(parts)


_HIDDEN, _HIDDEN_OR_JOINER = re.compile("[^GMVWLRDESKCNZPT]"), re.compile("[^GMVWLRDESKC]")
_LAYOUT = re.compile(r"[ \t\n]|\r(?=\n|\Z)")


def first_hidden(text: str) -> int | None:
    """The index of the first character that shows nothing; None without one. Space, tab, line ends, and joiners in
    displayable text are not hidden.
    """
    if text.isascii() and text.isprintable():
        return None
    classes = _LAYOUT.sub("x", text).translate(_class_of_code())
    found = (_HIDDEN if problem_of(text) is None else _HIDDEN_OR_JOINER).search(classes)
    return found.start() if found else None


_NOTHING_VISIBLE = "it has no visible character"


@cache
def _class_of_code() -> bytes:
    """The class of each code point, for str.translate: 256 KiB, made at the first text that is not ASCII."""
    table = bytearray(b"-" * _BEYOND)
    for letter, ranges in _CLASSES:
        for low, _, high in (item.partition("-") for item in ranges.split()):
            first, last = int(low, 16), int(high or low, 16)
            table[first : last + 1] = letter.encode() * (last - first + 1)
    return bytes(table)
