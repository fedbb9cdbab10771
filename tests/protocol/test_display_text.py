"""Text for people (docs/protocol.md, 2.5): the rule, and its tables on any version of Python."""

from __future__ import annotations

import unicodedata

import pytest

from sigil.protocol.encoding import unicode_tables
from sigil.protocol.encoding.display_text import MAX_MARKS, printable, problem_of
from tests.vectors.generator import actions

_TABLES = {
    name: getattr(unicode_tables, name).split()
    for name in vars(unicode_tables)
    if name.isupper() and "VERSION" not in name
}


def _category(code: int) -> str:
    return unicodedata.category(chr(code))


def _codes(name: str) -> set[int]:
    return set(actions.unicode_tables()[name])


def test_the_tables_of_the_server_are_those_of_the_vectors() -> None:
    listed = actions.TABLES.read_text(encoding="ascii")
    assert f"Unicode {unicode_tables.UNICODE_VERSION}." in listed
    assert sorted(_TABLES) == sorted(actions.unicode_tables())
    for name, ranges in _TABLES.items():
        assert " ".join(ranges) in " ".join(listed.split()), name


def test_the_tables_agree_with_the_categories_that_this_python_knows() -> None:
    """Code points that this version does not know differ, and the few whose category Unicode has changed."""
    graphic, marks, blanks = _codes("GRAPHIC"), _codes("MARK"), _codes("BLANK")
    listed = graphic | marks | blanks
    for code in range(0x110000):
        category = _category(code)
        if category in {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"} or code & 0xFFFE == 0xFFFE or 0xFDD0 <= code <= 0xFDEF:
            assert code not in listed, hex(code)
        elif code in listed and category != "Cn":
            assert category[0] in "LMNPSZ", hex(code)
    changed = {code for code in graphic if _category(code) in {"Mn", "Me"}}
    changed |= {
        code for code in marks if _category(code) not in {"Mn", "Me", "Cn"} and not unicodedata.combining(chr(code))
    }
    assert len(changed) < 10, sorted(map(hex, changed))


def test_the_answer_does_not_depend_on_the_unicode_version_of_python() -> None:
    """U+1FAE8 is of Unicode 15.0, U+1FADC of 16.0: str.isprintable() is False for them on Python 3.11."""
    assert problem_of("\U0001fae8 \U0001fadc") is None
    assert problem_of("a\u0378")


@pytest.mark.parametrize("point", ["\u3164", "\u115f", "\u1160", "\uffa0", "\u2800", "\u00a0", "\u3000", " "])
def test_a_text_without_a_visible_character_is_refused(point: str) -> None:
    for text in (point, point * 9, f" {point} "):
        assert problem_of(text)


def test_every_character_that_is_not_displayable_is_named_with_its_place() -> None:
    assert problem_of("ab\u202ec") == "character 3 (U+202E) cannot be displayed there"
    assert problem_of("ab\x1b[2J") == "character 3 (U+001B) cannot be displayed there"
    assert problem_of("\U0001f600\ud800") == "character 2 (U+D800) cannot be displayed there"


def test_marks_are_bounded_on_every_base() -> None:
    for base in ("e", "\u0915", "\U0001f600", "\u0915\u094d", "1\ufe0f\u20e3", "\u09b0\u200d\u09cd"):
        for mark in ("\u0301", "\u094d", "\u20dd", "\U0001d165"):
            assert problem_of(base + mark * (MAX_MARKS + 1))
    for joiner in "\u200c\u200d":
        assert problem_of("\u0915" + f"\u094d{joiner}\u0301" * 9)
        assert problem_of("\u0915" + f"\u094d{joiner}" * 9)


@pytest.mark.parametrize(
    "unit", ["\U0001f600", "\u0915\u094d\u200d", "\u0628\u200c", "e\u0301", "1\ufe0f\u20e3", "\u0301", " "]
)
def test_the_time_is_linear(unit: str) -> None:
    """A rule with backtracking would not end."""
    text = unit * 100_000
    problem_of(text + "\n")
    problem_of("\n" + text)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Zoë می\u200cخواهم \U0001f468\u200d\U0001f469", "Zoë می\u200cخواهم \U0001f468\u200d\U0001f469"),
        ("\x1b[2J\n", "\\u{1b}[2J\\u{a}"),
        ("a\u202eb\u200d", "a\\u{202e}b\\u{200d}"),
        ("e" + "\u0301" * 6, "e" + "\u0301" * 4 + "\\u{301}" * 2),
        ("\ud800 \U000e0041", "\\u{d800} \\u{e0041}"),
        ("", ""),
    ],
)
def test_what_a_terminal_gets_is_displayable_and_hides_nothing(text: str, shown: str) -> None:
    assert printable(text) == shown
