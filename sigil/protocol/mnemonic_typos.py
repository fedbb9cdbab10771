"""Which of 24 words was miswritten, where that can be told: a help for whoever copied them from paper.

The checksum has 8 bits: it says that a word is wrong, and one wrong word in 256 passes. But people miswrite words in
few ways, so the word at fault is most likely one whose near neighbour in the list would mend the checksum.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from sigil.protocol.identity import WORD_COUNT, normalise, word_indices

# More positions than this would tell a person nothing; a wrong word further off than one slip leaves chance hits alone.
_MOST = 2
_LETTERS = "abcdefghijklmnopqrstuvwxyz"


def unknown_positions(words: str) -> list[int]:
    """Positions 1..24 of words that are not in the list."""
    given = normalise(words).split()[:WORD_COUNT]
    return [position for position, word in enumerate(given, 1) if word not in word_indices()]


def likely_positions(words: str) -> list[int]:
    """Positions 1..24 whose word, one slip of the pen away, would mend the checksum; empty when that says too little.

    For 24 words of the list whose checksum is wrong; 5 ms.
    """
    given = normalise(words).split()
    found = [position for position in range(len(given)) if _mends(given, position)]
    return [position + 1 for position in found] if len(found) <= _MOST else []


def _mends(given: list[str], position: int) -> bool:
    before, after = given[:position], given[position + 1 :]
    near = word_indices().keys() & set(_slips(given[position]))
    return any(_belong_together([*before, word, *after]) for word in near)


def _belong_together(words: list[str]) -> bool:
    """Whether the last 8 of the 264 bits are the checksum of the others (BIP-39)."""
    bits = 0
    for word in words:
        bits = bits << 11 | word_indices()[word]
    return hashlib.sha256((bits >> 8).to_bytes(32)).digest()[0] == bits & 0xFF


def _slips(word: str) -> Iterator[str]:
    """A letter left out, doubled or added, taken for another, or two neighbours exchanged."""
    for at in range(len(word) + 1):
        head, tail = word[:at], word[at:]
        yield from (head + letter + tail for letter in _LETTERS)
        if tail:
            yield head + tail[1:]
            yield from (head + letter + tail[1:] for letter in _LETTERS)
        if len(tail) > 1:
            yield head + tail[1] + tail[0] + tail[2:]
