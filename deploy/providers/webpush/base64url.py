"""base64url without padding (RFC 4648, section 5), as Web Push writes keys and bodies."""

from __future__ import annotations

import base64
import re

_TEXT = re.compile(r"[A-Za-z0-9_-]*")


def encode(raw: bytes | bytearray) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def decode(text: str) -> bytes | None:
    """None for any other text; padding is permitted, since Firefox sends it."""
    text = text.rstrip("=")
    if not _TEXT.fullmatch(text) or len(text) % 4 == 1:
        return None
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
