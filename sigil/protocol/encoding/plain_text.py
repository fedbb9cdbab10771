"""Text that a person wrote into a file or a variable: secrets, paths, addresses, lists. One rule for all of it.

A UTF-8 byte order mark is taken off. What an editor does not show (UTF-16, NUL, no-break and zero-width blanks) and
quotes around the whole value are errors: they would silently be part of a secret or a path.
"""

from __future__ import annotations

import unicodedata

from sigil.protocol.encoding.display_text import first_hidden

_BOM = "\ufeff"
# UTF-32 begins with one of these, too.
_UTF_16 = (b"\xff\xfe", b"\xfe\xff", b"\x00\x00\xfe\xff")
_BLANKS = " \t\r\n"
_QUOTES = (
    '"',
    "'",
    "`",
    "\u201c\u201d",
    "\u201e\u201c",
    "\u201e\u201d",
    "\u2018\u2019",
    "\u201a\u2018",
    "\u00ab\u00bb",
)


class NotPlainText(ValueError):
    """The message completes "<name> …". It names the character and its place, and never the value."""


def text_of(content: bytes) -> str:
    """The text of a file, without a byte order mark and without the blanks around it; NotPlainText."""
    if content.startswith(_UTF_16):
        raise NotPlainText("is UTF-16 text: save it as UTF-8")
    try:
        text = content.decode()
    except UnicodeDecodeError:
        raise NotPlainText("is not UTF-8 text") from None
    return check(text.removeprefix(_BOM))


def check(text: str) -> str:
    """The text without the blanks around it; NotPlainText."""
    if problem := _hidden(text):
        raise NotPlainText(problem)
    value = stripped(text)
    if is_quoted(value):
        raise NotPlainText("is in quotes: remove them, they are not part of the value")
    return value


def stripped(text: str) -> str:
    """Not `str.strip`, which also takes off a no-break space: the same value would be right or wrong by its place."""
    return text.strip(_BLANKS)


def is_quoted(text: str) -> bool:
    return len(text) > 1 and any(text[0] == pair[0] and text[-1] == pair[-1] for pair in _QUOTES)


def cleaned(text: str) -> str:
    """A text for which `check` may have failed, without what it names."""
    while (at := first_hidden(text)) is not None:
        text = text[:at] + text[at + 1 :]
    text = stripped(text)
    return stripped(text[1:-1]) if is_quoted(text) else text


def _hidden(text: str) -> str | None:
    at = first_hidden(text)
    if at is None:
        return None
    char, before = text[at], text[:at]
    if "\ud800" <= char <= "\udfff":
        # How Python passes on the bytes of a variable that are not UTF-8.
        return "is not UTF-8 text"
    line, column = before.count("\n") + 1, at - before.rfind("\n")
    nameless = "a control character" if ord(char) < 0xA0 else "a character without a name"
    name = "NUL, as in UTF-16 text" if char == "\0" else unicodedata.name(char, nameless)
    return f"has U+{ord(char):04X} ({name}) at line {line}, character {column}, which cannot be seen: remove it"
