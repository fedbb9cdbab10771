"""The part of Protocol Buffers' encoding that Chromium's push service uses."""

from __future__ import annotations

from collections.abc import Iterator

Value = int | bytes | str
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


class Malformed(Exception):
    """Bytes that are no message."""


def varint(number: int) -> bytes:
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def read_varint(data: bytes | bytearray, at: int) -> tuple[int, int] | None:
    """The number and where it ends; None if it is incomplete."""
    number = shift = 0
    while at < len(data):
        byte = data[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, at
        shift += 7
        if shift > 63:
            raise Malformed
    return None


def encode(*fields: tuple[int, Value]) -> bytes:
    """Numbers as varints, texts and bytes with their length."""
    encoded = b""
    for field, value in fields:
        if isinstance(value, int):
            encoded += varint(field << 3 | _VARINT) + varint(value)
        else:
            raw = value.encode() if isinstance(value, str) else value
            encoded += varint(field << 3 | _BYTES) + varint(len(raw)) + raw
    return encoded


def fixed64(field: int, number: int) -> bytes:
    return varint(field << 3 | _FIXED64) + number.to_bytes(8, "little")


def decode(data: bytes) -> dict[int, list[int | bytes]]:
    """The values of each field, in order."""
    fields: dict[int, list[int | bytes]] = {}
    for field, value in _fields(data):
        fields.setdefault(field, []).append(value)
    return fields


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    at = 0
    while at < len(data):
        tag, at = _number(data, at)
        field, kind = tag >> 3, tag & 7
        if kind == _VARINT:
            value, at = _number(data, at)
            yield field, value
            continue
        if kind == _BYTES:
            length, at = _number(data, at)
        elif kind in {_FIXED64, _FIXED32}:
            length = 8 if kind == _FIXED64 else 4
        else:
            raise Malformed
        raw = data[at : at + length]
        if len(raw) < length:
            raise Malformed
        at += length
        yield field, raw if kind == _BYTES else int.from_bytes(raw, "little")


def _number(data: bytes, at: int) -> tuple[int, int]:
    if (found := read_varint(data, at)) is None:
        raise Malformed
    return found
