"""HTTP/2 messages: malformed ones end their stream or the connection, others get the same response as over HTTP/1."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from tests.hostile.http_2 import (
    END_HEADERS,
    END_STREAM,
    HEALTH,
    LAST,
    POST,
    PREFACE,
    Kind,
    block,
    exchange_frames,
    fields,
    frame,
    headers,
    settings,
)
from tests.hostile.json_values import INVALID_JSON
from tests.hostile.raw_client import RawClient, error_code
from tests.hostile.test_well_formed_requests import METHODS, bodies, targets

WHOLE = END_HEADERS | END_STREAM
PADDED = 8


def post(stream: int, body: bytes, **more: str) -> bytes:
    header_frame = headers(
        stream, block(*fields("POST", "/respond", **{"content_type": "application/json", **more})), END_HEADERS
    )
    parts = [body[at : at + 1_000] for at in range(0, len(body), 1_000)]
    return (
        header_frame
        + b"".join(frame(Kind.DATA, stream, part) for part in parts)
        + frame(Kind.DATA, stream, b"", END_STREAM)
    )


# Malformed messages and frames, in the order of RFC 9113.
MALFORMED = {
    "a frame that is too large": frame(Kind.DATA, 1, bytes(20_000)),
    "a large frame of no kind": frame(77, 0, bytes(100_000)),
    "bytes that are no HPACK": headers(1, b"\xff\xff\xff\xff\xff\xff\xff"),
    "an index beyond the table": headers(1, b"\xff\x80\x01"),
    "a table without measure": headers(1, b"\x3f\xff\xff\xff\xff\x0f" + HEALTH),
    "a Huffman code that ends badly": headers(1, b"\x00\x81\xff\x81\xff"),
    "fields of 1 MiB out of 20 KiB": headers(1, HEALTH + b"\x40\x01x\x7f\x81\x1e" + b"y" * 4_000 + b"\xbe" * 10_000),
    "an even stream": headers(2, HEALTH),
    "a stream that goes back": headers(5, HEALTH) + headers(3, HEALTH),
    "stream zero": headers(0, HEALTH),
    "data for no stream": frame(Kind.DATA, 0, b"{}"),
    "data for a stream that is not open": frame(Kind.DATA, 9, b"{}"),
    "more padding than there is": headers(1, POST, END_HEADERS) + frame(Kind.DATA, 1, b"\xff{}", PADDED),
    "a push by a client": frame(Kind.PUSH_PROMISE, 1, struct.pack(">I", 2) + HEALTH, END_HEADERS),
    "a ping of 7 bytes": frame(Kind.PING, 0, b"1234567"),
    "a reset of 3 bytes": headers(1, POST, END_HEADERS) + frame(Kind.RST_STREAM, 1, b"123"),
    "settings of 5 bytes": frame(Kind.SETTINGS, 0, b"12345"),
    "settings for a stream": frame(Kind.SETTINGS, 1),
    "a window that is too large": settings(initial_window_size=2**31),
    "frames that are too small": settings(max_frame_size=1),
    "a window that grows by nothing": frame(Kind.WINDOW_UPDATE, 0, bytes(4)),
    "a window over 2^31": frame(Kind.WINDOW_UPDATE, 0, b"\x7f\xff\xff\xff") * 2,
    "a stream that depends on itself": frame(Kind.PRIORITY, 3, struct.pack(">IB", 3, 0)),
    "a continuation of nothing": frame(Kind.CONTINUATION, 1, HEALTH, END_HEADERS),
    "another frame among continuations": headers(1, HEALTH, END_STREAM) + frame(Kind.PING, 0, b"12345678"),
    "a second preface": PREFACE,
    "HTTP/1 in the middle": b"GET /health HTTP/1.1\r\nHost: sigil\r\n\r\n",
    "an upper-case name": headers(1, block(*fields(), ("X-Large", "1"))),
    "a field of the connection": headers(1, block(*fields(), ("connection", "close"))),
    "a framing of HTTP/1": headers(1, block(*fields(), ("transfer-encoding", "chunked"))),
    "a line end in a value": headers(1, block(*fields(), ("x", "a\r\nb: c"))),
    "a zero byte in a value": headers(1, block(*fields(), ("x", "a\0b"))),
    "an empty name": headers(1, block(*fields(), ("", "1"))),
    "no path": headers(1, block((":method", "GET"), (":scheme", "https"))),
    "no method": headers(1, block((":path", "/health"), (":scheme", "https"))),
    "two paths": headers(1, block(*fields(), (":path", "/info"))),
    "a pseudo field of responses": headers(1, block(*fields(), (":status", "200"))),
    "a pseudo field after others": headers(1, block(("x", "1"), *fields())),
    "a path without a slash": headers(1, block(*fields(path="health"))),
    "an empty path": headers(1, block(*fields(path=""))),
    "a space in a path": headers(1, block(*fields(path="/he alth"))),
    "a WebSocket": headers(1, block(*fields("CONNECT"), (":protocol", "websocket")), END_HEADERS),
    "less than the content length": post(1, b"{}", content_length="3"),
    "more than the content length": post(1, b"{}", content_length="1"),
    "trailers that go on": headers(1, POST, END_HEADERS) + headers(1, block(("x", "1")), END_HEADERS) * 2,
}


@pytest.mark.parametrize("kind", MALFORMED)
def test_a_malformed_message_affects_only_its_stream_or_its_connection(raw_client: RawClient, kind: str) -> None:
    exchange_frames(raw_client, MALFORMED[kind])


BEGUN = PREFACE + headers(1, POST, END_HEADERS) + frame(Kind.DATA, 1, b'{"signature":')


@pytest.mark.parametrize(
    "sent", [0, 1, 10, 24, 30, len(PREFACE), len(PREFACE) + 5, len(PREFACE) + 20, len(BEGUN) - 5, len(BEGUN)]
)
@pytest.mark.parametrize(
    "raw", [BEGUN, BEGUN[3:], settings() + BEGUN, bytes(200)], ids=["good", "cut", "late", "zeros"]
)
def test_a_connection_that_breaks_at_any_frame_does_no_harm(raw_client: RawClient, raw: bytes, sent: int) -> None:
    with raw_client.connect_tls("h2") as connection:
        connection.sendall(raw[:sent])


def test_invalid_json_is_rejected_on_each_stream(raw_client: RawClient) -> None:
    """All on one connection at once, within the initial limits of 64 KiB and 128 streams."""
    bodies = [b'{"signature":%s}' % raw for raw in INVALID_JSON.values()]
    small = [body for body in bodies if len(body) < 1_000]
    for group in (small, *([body] for body in bodies if body not in small)):
        requests = {2 * n + 1: body for n, body in enumerate(group)}
        responses = exchange_frames(
            raw_client, *(post(stream, body) for stream, body in requests.items()), awaited_streams=requests
        )
        assert responses.keys() == {*requests, LAST}
        for stream in requests:
            assert error_code(responses[stream]) == "INVALID_REQUEST"


@examples(max_examples=100)
@given(
    requests=st.lists(
        st.tuples(
            st.sampled_from(METHODS).filter("CONNECT".__ne__),
            targets,
            bodies.map(lambda body: body[:4_000]),
            st.integers(20, 200),
            st.integers(0, 3),
        ),
        max_size=6,
    )
)
def test_every_stream_gets_a_response(raw_client: RawClient, requests: list[tuple[str, str, bytes, int, int]]) -> None:
    """The bodies are split into pieces of any size, with empty frames and padding; the streams alternate."""
    frames_sent, data_frames = [], []
    for n, (method, target, body, size, padding) in enumerate(requests):
        stream = 2 * n + 1
        more = {"content-type": "application/json", "x-request-id": f"request-{stream}"}
        frames_sent.append(headers(stream, block(*fields(method, target), *more.items()), END_HEADERS))
        pieces = [body[at : at + size] for at in range(0, len(body), size)]
        for position, piece in enumerate([*pieces, b""]):
            flags = PADDED | END_STREAM * (position == len(pieces))
            data_frames.append((position, frame(Kind.DATA, stream, bytes([padding]) + piece + bytes(padding), flags)))
    responses = exchange_frames(
        raw_client,
        *frames_sent,
        *(raw for _, raw in sorted(data_frames)),
        awaited_streams=range(1, 2 * len(requests), 2),
    )
    for n, (method, *_) in enumerate(requests):
        answer = responses[2 * n + 1]
        assert answer.headers["x-request-id"] == f"request-{2 * n + 1}"
        if answer.status >= 400 and method != "HEAD":
            error_code(answer)
