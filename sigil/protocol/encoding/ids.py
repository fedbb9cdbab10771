"""Challenge and request ids: UUID version 4 (RFC 9562), sent in lower case, 16 bytes inside."""

from __future__ import annotations

import re

_UUID4 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}\Z")


def uuid4_bytes(random: bytes) -> bytes:
    """The UUID of 16 random bytes (RFC 9562, 5.4)."""
    return random[:6] + bytes([random[6] & 0x0F | 0x40, random[7], random[8] & 0x3F | 0x80]) + random[9:]


def format_uuid(value: bytes) -> str:
    text = value.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def parse_uuid(text: str) -> bytes | None:
    """The 16 bytes, or None for any other spelling than `format_uuid` makes and for other UUID versions. For what a
    client sends, `text` is in lower case: RFC 9562, 4, accepts both.
    """
    return bytes.fromhex(text.replace("-", "")) if _UUID4.match(text) else None
