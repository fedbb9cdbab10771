"""Finds the misspelled word of a mnemonic where possible: a help for a person who copied it from paper.

The checksum has 8 bits: it detects a wrong word, and one wrong word in 256 passes. People misspell words in few ways,
so the wrong word is most likely one that a single typo turns into another word of the list with a matching checksum.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from sigil.protocol.identity import WORD_COUNT, normalise, word_indices

# More positions would not help a person. If the wrong word is more than one typo off, all positions found are chance.
_MAX_POSITIONS = 2
_LETTERS = "abcdefghijklmnopqrstuvwxyz"


def unknown_positions(words: str) -> list[int]:
    """Positions 1..24 of words that are not in the list."""
    given = normalise(words).split()[:WORD_COUNT]
    return [position for position, word in enumerate(given, 1) if word not in word_indices()]


def likely_positions(words: str) -> list[int]:
    """Positions 1..24 where a word of the list, one typo away, would make the checksum match.

    Empty when there are too many. `words` are 24 words of the list whose checksum is wrong; the search takes 5 ms.
    """
    given = normalise(words).split()
    found = [position for position in range(len(given)) if _typo_fixes_checksum(given, position)]
    return [position + 1 for position in found] if len(found) <= _MAX_POSITIONS else []


def _typo_fixes_checksum(given: list[str], position: int) -> bool:
    before, after = given[:position], given[position + 1 :]
    candidates = word_indices().keys() & set(_typos(given[position]))
    return any(_checksum_matches([*before, word, *after]) for word in candidates)


def _checksum_matches(words: list[str]) -> bool:
    """Whether the last 8 of the 264 bits are the checksum of the others (BIP-39)."""
    bits = 0
    for word in words:
        bits = bits << 11 | word_indices()[word]
    return hashlib.sha256((bits >> 8).to_bytes(32)).digest()[0] == bits & 0xFF


def _typos(word: str) -> Iterator[str]:
    """Every string that differs by one letter left out, added or replaced, or by two neighbours exchanged."""
    for at in range(len(word) + 1):
        head, tail = word[:at], word[at:]
        yield from (head + letter + tail for letter in _LETTERS)
        if tail:
            yield head + tail[1:]
            yield from (head + letter + tail[1:] for letter in _LETTERS)
        if len(tail) > 1:
            yield head + tail[1] + tail[0] + tail[2:]
