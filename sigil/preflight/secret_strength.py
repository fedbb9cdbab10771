"""Which secrets are too short, or published: examples of documentation, and public test vectors."""

from __future__ import annotations

import hashlib
import re

from sigil.protocol.identity import normalise

_MIN_BYTES = 32
_EXAMPLE = re.compile("example|change[-_]?me|placeholder|your[-_]|a1b2c3d4e5f6|0123456789abcdef", re.IGNORECASE)
# 64 random hex digits have fewer than 10 kinds of digits once in 10^11 times.
_FEW_KINDS = 10
# 24 random words have fewer than 13 different ones once in 10^19 times. Examples with repeated words have 8 at most.
_DIFFERENT_WORDS = 13
# SHA-256, 16 hex digits of it, of examples with different words: four vectors of BIP-39, and one of
# tests/vectors/mnemonics.json.
_PUBLISHED = frozenset(
    {"341c225b06c91708", "30452ba5605dd252", "0f388b04e512d7a0", "867f9f5929a7201c", "9759d5a1b77a50bb"}
)
_HEX = re.compile(r"[0-9a-fA-F]+\Z")
_BASE64 = re.compile(r"[A-Za-z0-9+/_-]+={0,2}\Z")


def weakness(secret: str) -> str | None:
    """Why a secret that another party shares is not 32 random bytes; None if it may be."""
    text = secret.removeprefix("whsec_")
    if _EXAMPLE.search(text):
        return "is an example value"
    if len(set(text)) < _FEW_KINDS:
        return "repeats a few characters"
    if (size := _bytes(text)) < _MIN_BYTES:
        return f"has {size} random bytes at most, and needs {_MIN_BYTES}"
    return None


def is_published(mnemonic: str) -> bool:
    """Whether a valid mnemonic is a well-known example."""
    words = normalise(mnemonic)
    digest = hashlib.sha256(words.encode()).hexdigest()[:16]
    return digest in _PUBLISHED or len(set(words.split())) < _DIFFERENT_WORDS


def _bytes(text: str) -> int:
    if _HEX.match(text):
        return len(text) // 2
    if _BASE64.match(text):
        return len(text.rstrip("=")) * 3 // 4
    return len(text)
