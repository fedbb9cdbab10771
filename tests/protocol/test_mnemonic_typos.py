"""Finding the misspelled word: reported when it is one typo away, and not guessed otherwise."""

from __future__ import annotations

import secrets

import pytest

from sigil.protocol.identity import DerivedSecrets, WrongChecksum, generate_mnemonic, word_list
from sigil.protocol.mnemonic_typos import likely_positions, unknown_positions

WORDS = (
    "final purpose cinnamon drop crunch sister sponsor rack globe nothing deal whale "
    "all noodle lecture stick cargo enemy give kitchen inspire clarify cost second"
)


def with_word(position: int, word: str) -> str:
    given = WORDS.split()
    given[position - 1] = word
    return " ".join(given)


@pytest.mark.parametrize(
    ("typo", "position", "word"),
    [
        ("a letter for another", 4, "crop"),
        ("a letter too many", 8, "crack"),
        ("a letter for another at the end", 9, "glove"),
        ("a letter too many in the middle", 23, "coast"),
        ("a letter left out", 16, "sick"),
        ("a letter for another in the middle", 16, "stock"),
    ],
)
def test_a_word_with_one_typo_is_found(typo: str, position: int, word: str) -> None:
    assert likely_positions(with_word(position, word)) == [position], typo
    assert likely_positions(with_word(position, word).upper()) == [position]


def test_two_exchanged_letters_are_one_typo() -> None:
    good = with_word(8, "sign").removesuffix("second") + "between"
    assert not _is_wrong(good)
    assert likely_positions(good.replace("sign", "sing")) == [8]


@pytest.mark.parametrize(
    ("mistake", "words"),
    [
        ("a word for quite another", with_word(12, "zebra")),
        ("two words changed places", "purpose final " + WORDS.split(" ", 2)[2]),
        ("one word over and over", "zoo " * 24),
    ],
)
def test_positions_that_cannot_be_known_are_not_reported(mistake: str, words: str) -> None:
    assert _is_wrong(words)
    assert likely_positions(words) == [], mistake


def test_chance_seldom_reports_a_correct_word() -> None:
    """Wrong words far from the right ones: in seven of a hundred cases a typo of another word fits by chance."""
    reported = wrong = 0
    for _ in range(60):
        given = generate_mnemonic().split()
        given[secrets.randbelow(24)] = secrets.choice(word_list())
        if _is_wrong(" ".join(given)):
            wrong += 1
            reported += bool(likely_positions(" ".join(given)))
    assert reported < wrong / 3


def test_unknown_words_are_counted_from_one_and_no_further_than_24() -> None:
    assert unknown_positions(WORDS) == []
    assert unknown_positions(with_word(1, "xylography")) == [1]
    assert unknown_positions("x " * 30) == list(range(1, 25))


def _is_wrong(words: str) -> bool:
    try:
        DerivedSecrets.from_mnemonic(words)
    except WrongChecksum:
        return True
    return False
