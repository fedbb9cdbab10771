"""A strict reader of the CBOR (RFC 8949) in App Attest: integers, bytes, text, arrays, maps.

It refuses every form that has an alternative or no use here: tags, floats, simple values, indefinite lengths, longer
forms of a length or an integer, duplicate keys, trailing bytes. cbor2 accepts trailing bytes, duplicate keys (the last
wins) and cycles.
"""

from __future__ import annotations

from typing import Any

MAX_DEPTH = 4
"""Objects of App Attest nest three deep: the object, attStmt, x5c."""
MAX_ITEMS = 64
"""Of all arrays and maps together; an object has about 20."""
_SIZES = {24: 1, 25: 2, 26: 4, 27: 8}


class CborError(ValueError):
    """The message completes "The data …", and repeats nothing of the data."""


def decode(data: bytes) -> Any:
    """The one item that `data` is. Raises CborError alone."""
    value, end = decode_first(data)
    if end != len(data):
        raise CborError("has bytes after its end")
    return value


def decode_first(data: bytes, start: int = 0) -> tuple[Any, int]:
    """The item at `start`, and where it ends. Raises CborError alone."""
    reader = _Reader(data, start)
    return reader.item(MAX_DEPTH), reader.at


class _Reader:
    def __init__(self, data: bytes, at: int) -> None:
        self.data, self.at, self.items = data, at, 0

    def item(self, depth: int) -> Any:
        self.items += 1
        if depth == 0 or self.items > MAX_ITEMS:
            raise CborError("is nested too deeply or has too many items")
        major, argument = self._head()
        if major == 0:
            return argument
        if major == 1:
            return -1 - argument
        if major == 2:
            return self._take(argument)
        if major == 3:
            try:
                return self._take(argument).decode("utf-8")
            except UnicodeDecodeError:
                raise CborError("has a text that is not UTF-8") from None
        if major == 4:
            # The counts are not trusted: each item takes a byte, and `items` ends a count that is too large.
            return [self.item(depth - 1) for _ in range(argument)]
        if major == 5:
            return self._map(argument, depth - 1)
        raise CborError("has a tag, a float or a simple value")

    def _map(self, count: int, depth: int) -> dict[int | str, Any]:
        found: dict[int | str, Any] = {}
        for _ in range(count):
            key = self.item(depth)
            if not isinstance(key, int | str) or key in found:
                raise CborError("has a key that is repeated, or is neither an integer nor a text")
            found[key] = self.item(depth)
        return found

    def _head(self) -> tuple[int, int]:
        initial = self._take(1)[0]
        major, low = initial >> 5, initial & 31
        if low < 24:
            return major, low
        if (size := _SIZES.get(low)) is None:
            raise CborError("has an indefinite length or a reserved form")
        argument = int.from_bytes(self._take(size))
        if argument < (24 if size == 1 else 1 << 4 * size):
            raise CborError("has an integer or a length in a longer form than needed")
        return major, argument

    def _take(self, count: int) -> bytes:
        if count > len(self.data) - self.at:
            raise CborError("ends early")
        self.at += count
        return self.data[self.at - count : self.at]
