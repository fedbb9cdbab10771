"""The one accepted spelling of base64, hex and times on the wire (docs/protocol.md, introduction)."""

from __future__ import annotations

import base64
import binascii
import calendar
import re
import time

from sigil.protocol.errors import InvalidRequest, subject_of

_HEX = re.compile(r"[0-9a-f]*\Z")
_BASE64URL = re.compile(r"[A-Za-z0-9_-]*\Z", re.ASCII)
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ\Z", re.ASCII)


def encode_base64(data: bytes) -> str:
    return binascii.b2a_base64(data, newline=False).decode("ascii")


def decode_base64(text: str, path: str, *, length: int | None = None) -> bytes:
    """Decode base64: standard alphabet, padded, no white space, zero trailing bits. Else InvalidRequest at `path`."""
    try:
        data = base64.b64decode(text, validate=True)
    except ValueError:
        data = None
    # Decoders accept non-zero trailing bits, which would give one value several spellings: re-encoding rejects them.
    if data is None or encode_base64(data) != text:
        raise InvalidRequest(f"{subject_of(path)} must be base64 in the standard alphabet with padding.", path=path)
    if length is not None and len(data) != length:
        raise InvalidRequest(f"{subject_of(path)} must be {length} bytes in base64, not {len(data)}.", path=path)
    return data


def encode_base64url(data: bytes) -> str:
    """base64url without padding (RFC 4648, section 5)."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def decode_base64url(text: str) -> bytes | None:
    """None for every other spelling than `encode_base64url` makes."""
    if not _BASE64URL.match(text) or len(text) % 4 == 1:
        return None
    data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    return data if encode_base64url(data) == text else None


def decode_hex(text: str, path: str, *, length: int) -> bytes:
    """Decode exactly `length` bytes of lower-case hex; anything else is InvalidRequest at `path`."""
    if len(text) != 2 * length or not _HEX.match(text):
        raise InvalidRequest(f"{subject_of(path)} must be {2 * length} lower-case hex characters.", path=path)
    return bytes.fromhex(text)


def format_time(seconds: int) -> str:
    """`YYYY-MM-DDTHH:MM:SSZ` of a Unix time."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def parse_time(text: str, path: str) -> int:
    """Unix time of `YYYY-MM-DDTHH:MM:SSZ`, the only accepted form; anything else is InvalidRequest at `path`."""
    if _TIME.match(text):
        try:
            seconds = calendar.timegm(time.strptime(text, "%Y-%m-%dT%H:%M:%SZ"))
        except ValueError:
            seconds = -1
        # strptime accepts the seconds 60 and 61; the round trip rejects them.
        if seconds >= 0 and format_time(seconds) == text:
            return seconds
    raise InvalidRequest(f"{subject_of(path)} must be a time as YYYY-MM-DDTHH:MM:SSZ.", path=path)
