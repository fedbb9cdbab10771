"""A writer of DER, for certificates that no library would mint. It writes what it is given, and checks nothing."""

from __future__ import annotations

import time
from collections.abc import Sequence

CONSTRUCTED, CONTEXT = 0x20, 0x80


def tlv(tag: bytes | int, *content: bytes) -> bytes:
    """`tag` is one identifier octet, or several."""
    body = b"".join(content)
    octets = (len(body).bit_length() + 7) // 8
    length = bytes([len(body)]) if len(body) < 0x80 else bytes([0x80 | octets]) + len(body).to_bytes(octets)
    return (bytes([tag]) if isinstance(tag, int) else tag) + length + body


def sequence(*content: bytes) -> bytes:
    return tlv(0x30, *content)


def set_of(*content: bytes) -> bytes:
    return tlv(0x31, *sorted(content))


def boolean(true: bytes = b"\xff") -> bytes:
    return tlv(0x01, true)


def integer(value: int, tag: int = 0x02) -> bytes:
    return tlv(tag, value.to_bytes(value.bit_length() // 8 + 1, signed=True))


def enumerated(value: int) -> bytes:
    return integer(value, 0x0A)


def octets(value: bytes) -> bytes:
    return tlv(0x04, value)


def bits(value: bytes) -> bytes:
    return tlv(0x03, b"\0", value)


def null() -> bytes:
    return tlv(0x05)


def text(value: str) -> bytes:
    return tlv(0x0C, value.encode())


def oid(dotted: str) -> bytes:
    first, second, *rest = (int(part) for part in dotted.split("."))
    return tlv(0x06, *(_base128(part) for part in (40 * first + second, *rest)))


def explicit(number: int, *content: bytes) -> bytes:
    """[number] EXPLICIT; numbers from 31 on take the long form."""
    first = CONTEXT | CONSTRUCTED
    return tlv(bytes([first | number]) if number < 31 else bytes([first | 31]) + _base128(number), *content)


def moment(seconds: int) -> bytes:
    """UTCTime until 2049, GeneralizedTime from 2050 on (RFC 5280, 4.1.2.5)."""
    given = time.gmtime(seconds)
    if given.tm_year < 2050:
        return tlv(0x17, time.strftime("%y%m%d%H%M%SZ", given).encode())
    return tlv(0x18, time.strftime("%Y%m%d%H%M%SZ", given).encode())


def name(*attributes: tuple[str, str]) -> bytes:
    """A distinguished name of (OID, text), one attribute per relative name."""
    return sequence(*(set_of(sequence(oid(kind), text(value))) for kind, value in attributes))


def extension(kind: str, value: bytes, *, critical: Sequence[bytes] = ()) -> bytes:
    return sequence(oid(kind), *(boolean(octet) for octet in critical), octets(value))


def _base128(value: int) -> bytes:
    groups = [value & 0x7F]
    while value := value >> 7:
        groups.append(0x80 | value & 0x7F)
    return bytes(reversed(groups))
