"""Fingerprints, and beginnings of them, as people paste them into commands."""

from __future__ import annotations

import re

from sigil.protocol.encoding.text import decode_base64
from sigil.protocol.errors import InvalidPublicKey, InvalidRequest
from sigil.protocol.keys import PublicKey

MIN_BEGINNING = 6
"""As many characters of a fingerprint as the log has."""
_HEX = re.compile(r"[0-9a-f]+\Z")
# Groups with spaces, colons or hyphens, quotes, several lines, and the ellipsis of the log.
_SEPARATORS = re.compile(r"[\s:\-'\"\u200b\ufeff]+")


def parse_beginning(text: str) -> str:
    """MIN_BEGINNING to 64 lower-case hex characters; 64 for a device's public key in base64, which is what a backend
    has of a person. ValueError with one line.
    """
    if whole := _of_public_key(text.strip()):
        return whole
    found = _SEPARATORS.sub("", text).lower().rstrip("….")
    if not _HEX.match(found):
        raise ValueError("a fingerprint has hex characters only (0-9, a-f), and this is no public key")
    if len(found) > 64:
        raise ValueError(f"a fingerprint has 64 hex characters, and this has {len(found)}")
    if len(found) < MIN_BEGINNING:
        raise ValueError(f"give at least the first {MIN_BEGINNING} characters of the fingerprint")
    return found


def _of_public_key(text: str) -> str | None:
    try:
        return PublicKey.parse(decode_base64(text, "$")).fingerprint
    except (InvalidRequest, InvalidPublicKey):
        return None
