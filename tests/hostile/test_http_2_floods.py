"""HTTP/2 floods: frames that cost the sender nothing are not served without end, and other clients are not affected."""

from __future__ import annotations

import struct

import pytest

from tests.hostile.http_2 import (
    END_HEADERS,
    END_STREAM,
    HEALTH,
    LAST,
    POST,
    Kind,
    block,
    exchange_frames,
    frame,
    headers,
    settings,
)
from tests.hostile.raw_client import RawClient

CANCEL = struct.pack(">I", 8)
MANY = range(1, 20_001, 2)


def reset(stream: int) -> bytes:
    return frame(Kind.RST_STREAM, stream, CANCEL)


COSTLY_FLOODS = {
    "requests that are reset at once": b"".join(headers(n, HEALTH) + reset(n) for n in MANY),
    "bodies that are reset at once": b"".join(
        headers(n, POST, END_HEADERS) + frame(Kind.DATA, n, b"{") + reset(n) for n in MANY
    ),
    "requests that make the server reset them": b"".join(
        headers(n, POST, END_HEADERS) + frame(Kind.WINDOW_UPDATE, n, b"\x7f\xff\xff\xff") for n in MANY
    ),
    "requests that go on after their end": b"".join(headers(n, HEALTH) + frame(Kind.DATA, n, b"{") for n in MANY),
    "requests with an unknown pseudo field": b"".join(headers(n, block((":nothing", ""))) for n in MANY),
    "fields without end": headers(1, HEALTH, END_STREAM)
    + frame(Kind.CONTINUATION, 1, block(("x-more", "y" * 4_000))) * 2_000,
    "empty continuations": headers(1, HEALTH, END_STREAM) + frame(Kind.CONTINUATION, 1) * 100_000,
    "empty data": headers(1, POST, END_HEADERS) + frame(Kind.DATA, 1) * 100_000,
    "data of padding": headers(1, POST, END_HEADERS) + frame(Kind.DATA, 1, b"\xff" + bytes(255), 8) * 20_000,
}
CHEAP_FLOODS = {
    "settings": settings() * 50_000,
    "settings of changing value": b"".join(settings(initial_window_size=n, header_table_size=n) for n in MANY),
    "pings": frame(Kind.PING, 0, b"12345678") * 50_000,
    "priorities": b"".join(frame(Kind.PRIORITY, n, struct.pack(">IB", 0, 1)) for n in MANY),
    "windows": frame(Kind.WINDOW_UPDATE, 0, struct.pack(">I", 1)) * 50_000,
    "frames of an unknown type": frame(77, 0, b"x" * 100, 255) * 5_000,
    "more streams than are allowed": b"".join(headers(2 * n + 1, POST, END_HEADERS) for n in range(500)),
}


@pytest.mark.parametrize("kind", COSTLY_FLOODS)
def test_a_flood_that_costs_the_server_work_ends_the_connection(raw_client: RawClient, kind: str) -> None:
    assert LAST not in exchange_frames(raw_client, COSTLY_FLOODS[kind])


@pytest.mark.parametrize("kind", CHEAP_FLOODS)
def test_a_flood_of_cheap_frames_is_served_or_ends_the_connection(raw_client: RawClient, kind: str) -> None:
    exchange_frames(raw_client, CHEAP_FLOODS[kind])
