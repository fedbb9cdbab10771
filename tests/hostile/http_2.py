"""HTTP/2 (RFC 9113) frame by frame, for messages that a correct library cannot send."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator

import h2.config
import h2.connection

from deploy.providers.http.frames import END_HEADERS, END_STREAM, Kind, frame
from tests.hostile.raw_client import RawClient, RawResponse

# The highest stream number, for the last request of a connection.
LAST = 2**31 - 1


def settings(**values: int) -> bytes:
    numbers = {"header_table_size": 1, "initial_window_size": 4, "max_frame_size": 5}
    return frame(Kind.SETTINGS, 0, b"".join(struct.pack(">HI", numbers[name], value) for name, value in values.items()))


PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + settings()


def block(*fields: tuple[str, str]) -> bytes:
    """Fields as HPACK literals without index and without Huffman, so that they can contain any bytes."""
    parts = []
    for text in (text for one in fields for text in one):
        size = len(text)
        parts.append(bytes([size]) if size < 127 else b"\x7f" + _length_octets(size - 127))
        parts.append(text.encode("latin-1"))
    return b"".join(b"\x00" + b"".join(parts[at : at + 4]) for at in range(0, len(parts), 4))


def _length_octets(rest: int) -> bytes:
    lead = b""
    while rest >= 128:
        lead += bytes([rest % 128 + 128])
        rest //= 128
    return lead + bytes([rest])


def fields(method: str = "GET", path: str = "/health", **more: str) -> list[tuple[str, str]]:
    own = [(":method", method), (":path", path), (":scheme", "https"), (":authority", "sigil")]
    return own + [(name.replace("_", "-"), value) for name, value in more.items()]


def headers(stream: int, block: bytes, flags: int = END_HEADERS | END_STREAM) -> bytes:
    return frame(Kind.HEADERS, stream, block, flags)


def reset(stream: int) -> bytes:
    """The client cancels its request."""
    cancel = 8
    return frame(Kind.RST_STREAM, stream, struct.pack(">I", cancel))


HEALTH = block(*fields())
POST = block(*fields("POST", "/respond", content_type="application/json"))


def _frames(raw: bytes, at: int = 0) -> Iterator[tuple[int, int, int, int, bytes]]:
    """The complete frames: end offset, kind, flags, stream and payload of each."""
    while len(raw) >= at + 9:
        kind, flags, stream = raw[at + 3], raw[at + 4], int.from_bytes(raw[at + 5 : at + 9], "big") & LAST
        payload = at + 9
        at = payload + int.from_bytes(raw[at : at + 3], "big")
        if len(raw) >= at:
            yield at, kind, flags, stream, raw[payload:at]


def ended_streams(streams: Iterable[int]) -> Callable[[bytes], bool]:
    """A function that returns whether all these streams have ended in the bytes received so far."""
    open_streams, at = set(streams), 0

    def ended(raw: bytes) -> bool:
        nonlocal at
        for end, kind, flags, stream, _ in _frames(raw, at):
            at = end
            if kind == Kind.RST_STREAM or (kind in {Kind.DATA, Kind.HEADERS} and flags & END_STREAM):
                open_streams.discard(stream)
        return not open_streams

    return ended


def responses_by_stream(raw: bytes) -> dict[int, RawResponse]:
    """The responses of a connection by stream."""
    responses: dict[int, RawResponse] = {}
    decoder = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True)).decoder
    for _, kind, _, stream, payload in _frames(raw):
        if kind == Kind.HEADERS:
            given = dict(decoder.decode(payload))
            responses[stream] = RawResponse(int(given.pop(":status")), given, b"")
        elif kind == Kind.DATA:
            first_part = responses[stream]
            responses[stream] = RawResponse(first_part.status, first_part.headers, first_part.body + payload)
    return responses


def exchange_frames(
    raw_client: RawClient, *frames_sent: bytes, awaited_streams: Iterable[int] = ()
) -> dict[int, RawResponse]:
    """Sends all frames and a last request for /health; reads until that and the awaited streams have ended, or the end.

    No response may be a 5xx. The response to the last request, if there is one, is a 200.
    """
    raw = PREFACE + b"".join(frames_sent) + headers(LAST, HEALTH)
    responses = responses_by_stream(raw_client.exchange(raw, "h2", ended_streams({*awaited_streams, LAST})))
    assert all(answer.status < 500 for answer in responses.values()), responses
    assert LAST not in responses or responses[LAST].status == 200
    return responses
