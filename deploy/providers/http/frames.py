"""Frames of HTTP/2 (RFC 9113, sections 4 and 6), both ways. Pure."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from enum import IntEnum

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
END_STREAM = ACK = 0x1
END_HEADERS = 0x4
PADDED = 0x8
PRIORITY_GIVEN = 0x20
# The largest payload that a side may send before the other allows more (section 4.2). The stand-ins never allow more.
MAX_PAYLOAD = 16_384
INITIAL_WINDOW = 65_535
MAX_WINDOW = LAST_STREAM = 2**31 - 1

Frame = tuple[int, int, int, bytes]
"""Kind, flags, stream, payload."""


class Kind(IntEnum):
    DATA = 0
    HEADERS = 1
    PRIORITY = 2
    RST_STREAM = 3
    SETTINGS = 4
    PUSH_PROMISE = 5
    PING = 6
    GOAWAY = 7
    WINDOW_UPDATE = 8
    CONTINUATION = 9


class Setting(IntEnum):
    HEADER_TABLE_SIZE = 1
    ENABLE_PUSH = 2
    MAX_CONCURRENT_STREAMS = 3
    INITIAL_WINDOW_SIZE = 4
    MAX_FRAME_SIZE = 5
    MAX_HEADER_LIST_SIZE = 6


class Code(IntEnum):
    """Error codes of RST_STREAM and GOAWAY (section 7)."""

    NO_ERROR = 0
    PROTOCOL_ERROR = 1
    INTERNAL_ERROR = 2
    FLOW_CONTROL_ERROR = 3
    STREAM_CLOSED = 5
    FRAME_SIZE_ERROR = 6
    REFUSED_STREAM = 7
    CANCEL = 8
    COMPRESSION_ERROR = 9
    ENHANCE_YOUR_CALM = 11


class ProtocolError(Exception):
    """The peer violated the protocol: its connection ends with `code`."""

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message)
        self.code = code


class FrameReader:
    """Splits the input into frames, after the preface. A server sends no preface."""

    def __init__(self, preface: bytes = PREFACE) -> None:
        self._rest = b""
        self._preface = preface

    def feed(self, data: bytes) -> Iterator[Frame]:
        """The frames that are complete; ProtocolError for a wrong preface or a frame that is too large."""
        raw, at = self._rest + data, 0
        if self._preface:
            if not self._preface.startswith(raw[: len(self._preface)]):
                raise ProtocolError(Code.PROTOCOL_ERROR, "this is not HTTP/2")
            if len(raw) < len(self._preface):
                self._rest = raw
                return
            at, self._preface = len(self._preface), b""
        size = len(raw)
        while size - at >= 9:
            length = int.from_bytes(raw[at : at + 3], "big")
            if length > MAX_PAYLOAD:
                raise ProtocolError(Code.FRAME_SIZE_ERROR, f"a frame of {length} bytes")
            if size - at < 9 + length:
                break
            stream = int.from_bytes(raw[at + 5 : at + 9], "big") & LAST_STREAM
            yield raw[at + 3], raw[at + 4], stream, raw[at + 9 : at + 9 + length]
            at += 9 + length
        self._rest = raw[at:]


def unpadded(kind: int, flags: int, payload: bytes) -> bytes:
    """The content of DATA or HEADERS, without padding and priority."""
    start, end = 0, len(payload)
    if flags & PADDED:
        if not payload or payload[0] >= end:
            raise ProtocolError(Code.PROTOCOL_ERROR, "more padding than frame")
        start, end = 1, end - payload[0]
    if kind == Kind.HEADERS and flags & PRIORITY_GIVEN:
        start += 5
    return payload[start:end]


def parse_settings(payload: bytes) -> dict[int, int]:
    if len(payload) % 6:
        raise ProtocolError(Code.FRAME_SIZE_ERROR, "settings of a wrong size")
    return dict(struct.iter_unpack(">HI", payload))


def parse_number(payload: bytes) -> int:
    """The 31 bits of WINDOW_UPDATE, or the code of RST_STREAM."""
    if len(payload) != 4:
        raise ProtocolError(Code.FRAME_SIZE_ERROR, "a number of a wrong size")
    return int.from_bytes(payload, "big") & LAST_STREAM


def frame(kind: int, stream: int, payload: bytes = b"", flags: int = 0) -> bytes:
    return struct.pack(">HBBBI", len(payload) >> 8, len(payload) & 0xFF, kind, flags, stream) + payload


def settings(values: dict[Setting, int]) -> bytes:
    return frame(Kind.SETTINGS, 0, b"".join(struct.pack(">HI", *pair) for pair in values.items()))


def reset(stream: int, code: int) -> bytes:
    return frame(Kind.RST_STREAM, stream, struct.pack(">I", code))


def window_update(stream: int, size: int) -> bytes:
    return frame(Kind.WINDOW_UPDATE, stream, struct.pack(">I", size))


def goaway(last_stream: int, code: int, debug: bytes = b"") -> bytes:
    return frame(Kind.GOAWAY, 0, struct.pack(">II", last_stream, code) + debug)
