"""A strict reader of DER (X.690): definite minimal lengths, bounded size, depth and count, nothing after the value.

    root = parse(data)                     # DerError
    root.children[0].integer()

The whole tree is checked before a value is used. Real phones of 2026 encode TRUE as 0x01: `booleans` names the octets
that a document may use. cryptography refuses such certificates, and other readers skip the rules that this one needs:
one value has one encoding.
"""

from __future__ import annotations

from collections.abc import Container, Iterator
from itertools import pairwise
from typing import NamedTuple

MAX_SIZE = 16 * 1024
MAX_DEPTH = 12
MAX_VALUES = 256
"""Of one document: certificates of phones have up to 84. It bounds the time, 3 µs each: 40 KiB of empty values in
certificates without a valid signature kept a worker for 60 ms.
"""
MAX_INTEGER = 21
"""Octets of a number that is read: the 20 of a serial number (RFC 5280, 4.1.2.2) and its sign. Python refuses to print
numbers of a few thousand.
"""
_MAX_TAG_NUMBER = 16_383

BOOLEAN, INTEGER, BIT_STRING, OCTET_STRING, NULL, OID, ENUMERATED = 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x0A
UTC_TIME, GENERALIZED_TIME, SEQUENCE, SET = 0x17, 0x18, 0x30, 0x31
_DER_BOOLEANS = (0x00, 0xFF)
_CONSTRUCTED, _HIGH_TAG = 0x20, 0x1F
# UTF8String, NumericString, PrintableString, TeletexString, IA5String, BMPString: names hold no others. And times.
TEXT = {
    0x0C: "utf-8", 0x12: "ascii", 0x13: "ascii", 0x14: "latin-1", 0x16: "ascii", 0x1E: "utf-16-be",
    UTC_TIME: "ascii", GENERALIZED_TIME: "ascii",
}  # fmt: skip
_UNIVERSAL = {BOOLEAN, INTEGER, BIT_STRING, OCTET_STRING, NULL, OID, ENUMERATED, SEQUENCE, SET, *TEXT}


class DerError(ValueError):
    """The bytes are not DER, or not of the expected form. The text says which rule; it holds no input."""


def context(number: int) -> int:
    """The identifier octets of an explicit tag [number], as `Node.tag` has them."""
    if number < _HIGH_TAG:
        return 0xA0 | number
    return 0xBF << 8 | number if number < 0x80 else 0xBF << 16 | (0x80 | number >> 7) << 8 | number & 0x7F


def oid(dotted: str) -> bytes:
    """The content of an OBJECT IDENTIFIER."""
    first, second, *rest = (int(part) for part in dotted.split("."))
    content = bytearray()
    for arc in (40 * first + second, *rest):
        groups = [arc & 0x7F]
        while arc := arc >> 7:
            groups.append(0x80 | arc & 0x7F)
        content += bytes(reversed(groups))
    return bytes(content)


class Node(NamedTuple):
    """One value. `tag`: its identifier octets as a number. `raw`: its whole encoding."""

    tag: int
    content: bytes
    children: tuple[Node, ...]
    raw: bytes

    def of(self, tag: int) -> Node:
        if self.tag != tag:
            raise DerError(f"expected tag {tag:#x}, found {self.tag:#x}")
        return self

    def items(self, tag: int = SEQUENCE, least: int = 0, most: int = 1000) -> tuple[Node, ...]:
        """The children of a value with `tag`, if their number is in the range."""
        if not least <= len(self.of(tag).children) <= most:
            raise DerError(f"{len(self.children)} elements where {least} to {most} are expected")
        return self.children

    def integer(self, tag: int = INTEGER) -> int:
        if len(self.of(tag).content) > MAX_INTEGER:
            raise DerError("a number that is too long")
        return int.from_bytes(self.content, "big", signed=True)

    def octets(self) -> bytes:
        return self.of(OCTET_STRING).content

    def boolean(self) -> bool:
        return self.of(BOOLEAN).content != b"\x00"

    def text(self) -> str:
        """A string or a time."""
        try:
            return self.content.decode(TEXT[self.tag])
        except KeyError:
            raise DerError(f"a text was expected, found tag {self.tag:#x}") from None
        except UnicodeDecodeError:
            raise DerError("a text with octets outside its character set") from None

    def bits(self) -> bytes:
        """A BIT STRING of whole octets: keys and signatures."""
        if self.of(BIT_STRING).content[0]:
            raise DerError("a BIT STRING with unused bits")
        return self.content[1:]


def parse(data: bytes, booleans: Container[int] = _DER_BOOLEANS) -> Node:
    """The one value that `data` encodes."""
    if len(data) > MAX_SIZE:
        raise DerError(f"more than {MAX_SIZE} bytes")
    node, end = _value(data, 0, len(data), booleans, MAX_DEPTH, values=iter(range(MAX_VALUES)))
    if end != len(data):
        raise DerError("bytes after the value")
    return node


def _value(
    data: bytes, start: int, limit: int, booleans: Container[int], depth: int, *, values: Iterator[int]
) -> tuple[Node, int]:
    """The value at `start`, and where it ends, at most at `limit`. `values` has one item for each that may follow."""
    if next(values, None) is None:
        raise DerError(f"more than {MAX_VALUES} values")
    if depth == 0:
        raise DerError(f"nested more than {MAX_DEPTH} deep")
    try:
        tag, at = _identifier(data, start)
        length, begin = _length(data, at)
    except IndexError:
        raise DerError("cut off") from None
    end = begin + length
    if end > limit:
        raise DerError("a value longer than what contains it")
    children: list[Node] = []
    if data[start] & _CONSTRUCTED:
        position = begin
        while position < end:
            child, position = _value(data, position, end, booleans, depth - 1, values=values)
            children.append(child)
    node = Node(tag, data[begin:end], tuple(children), data[start:end])
    _check(node, data[start], booleans)
    return node, end


def _identifier(data: bytes, at: int) -> tuple[int, int]:
    first = data[at]
    if first & _HIGH_TAG != _HIGH_TAG:
        return first, at + 1
    number, tag = 0, first
    while True:
        at += 1
        octet = data[at]
        if number == 0 and octet == 0x80:
            raise DerError("a tag number with leading zeros")
        tag, number = tag << 8 | octet, number << 7 | octet & 0x7F
        if number > _MAX_TAG_NUMBER:
            raise DerError("a tag number out of range")
        if octet < 0x80:
            break
    if number < _HIGH_TAG:
        raise DerError("a tag number in the long form that fits the short form")
    return tag, at + 1


def _length(data: bytes, at: int) -> tuple[int, int]:
    first = data[at]
    if first < 0x80:
        return first, at + 1
    count = first & 0x7F
    if not 1 <= count <= 2:
        raise DerError("an indefinite or oversized length")
    data[at + count]
    length = int.from_bytes(data[at + 1 : at + 1 + count], "big")
    if length < (0x80 if count == 1 else 0x100):
        raise DerError("a length that is not minimal")
    return length, at + 1 + count


def _check(node: Node, first: int, booleans: Container[int]) -> None:
    """The rules of DER for the universal types. Context tags are explicit: what they contain has its own tag."""
    if first & 0xE0 == 0xA0:
        if len(node.children) != 1:
            raise DerError("an explicit tag without exactly one value")
        return
    tag, content = node.tag, node.content
    if tag not in _UNIVERSAL:
        raise DerError(f"the type {tag:#x} is not expected")
    if tag == BOOLEAN and (len(content) != 1 or content[0] not in booleans):
        raise DerError("a BOOLEAN that is not DER")
    if tag in (INTEGER, ENUMERATED):
        padded = len(content) > 1 and content[0] in (0x00, 0xFF) and (content[0] ^ content[1]) < 0x80
        if not content or padded:
            raise DerError("an INTEGER that is not minimal")
    if tag in TEXT:
        node.text()
    if tag == NULL and content:
        raise DerError("a NULL with content")
    if tag == BIT_STRING:
        unused = content[0] if content else 8
        if unused > 7 or content[-1] & (1 << unused) - 1:
            raise DerError("a BIT STRING that is not DER")
    if tag == OID and (not content or content[-1] >= 0x80 or content[0] == 0x80 or b"\x80" in _arc_starts(content)):
        raise DerError("an OBJECT IDENTIFIER that is not minimal")


def _arc_starts(content: bytes) -> bytes:
    return bytes(octet for before, octet in pairwise(content) if before < 0x80)
