"""A writer of CBOR (RFC 8949), for attestation objects that no library would write."""

from __future__ import annotations

from collections.abc import Mapping


class Raw(bytes):
    """Written as it is: what the writer itself would not produce."""


def encode(value: object) -> bytes:
    """Integers, bytes, text, lists, mappings in their own order, and `Raw`."""
    match value:
        case Raw():
            return bytes(value)
        case int():
            return head(0, value) if value >= 0 else head(1, -1 - value)
        case bytes():
            return head(2, len(value)) + value
        case str():
            return head(3, len(value.encode())) + value.encode()
        case list():
            return head(4, len(value)) + b"".join(encode(item) for item in value)
        case Mapping():
            pairs = (encode(key) + encode(item) for key, item in value.items())
            return head(5, len(value)) + b"".join(pairs)
    raise TypeError(f"CBOR has no {type(value).__name__} here")


def head(major: int, argument: int) -> bytes:
    """The shortest form."""
    if argument < 24:
        return bytes([major << 5 | argument])
    for code, size in ((24, 1), (25, 2), (26, 4), (27, 8)):
        if argument < 1 << 8 * size:
            return bytes([major << 5 | code]) + argument.to_bytes(size)
    raise OverflowError("over 64 bits")
