"""Hostile input leaves neither memory nor open files behind."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tests.hostile.http_2 import END_HEADERS, HEALTH, POST, PREFACE, Kind, exchange_frames, frame, headers, settings
from tests.hostile.json_values import INVALID_JSON, VALID_JSON
from tests.hostile.raw_client import RawClient
from tests.hostile.server_check import UNLIMITED, ServerCheck
from tests.hostile.test_http_2_floods import CHEAP_FLOODS, COSTLY_FLOODS
from tests.support.live import LiveServer, wait_until

MAX_GROWTH = 16 << 20
"""More than ten times the measured growth. A leak of one body or one field per request would exceed it."""
WARM_UP_ROUNDS, ROUNDS = 2, 8
END = b"GET /nope HTTP/1.1\r\nHost: sigil\r\nConnection: close\r\n\r\n"


def memory(server: LiveServer) -> int:
    """The memory of all workers in bytes; shared pages are counted once."""
    total = 0
    for pid in server.workers():
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
        total += next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total << 10


def open_files(server: LiveServer) -> int:
    return sum(len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in server.workers())


def hostile_requests(key: str, number: int) -> Iterator[bytes]:
    """The requests of a round: each about as large as permitted, and different from those of all other rounds."""
    headers_with_key = b"Host: sigil\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\n" % key.encode()
    values = [*VALID_JSON.values(), *INVALID_JSON.values(), b"A" * 70_000]
    for path, name in ((b"/challenge", b"action"), (b"/respond", b"signature"), (b"/device/pending", b"timestamp")):
        for place, value in enumerate(values):
            body = b'{"%d":%d,"%s":%s}' % (number, number, name, value)
            body = body.ljust(60_000) if place % 2 else body
            yield b"POST %s HTTP/1.1\r\n%sContent-Length: %d\r\n\r\n%s" % (path, headers_with_key, len(body), body)
    for place in range(100):
        text = b"%d.%d." % (number, place) + b"x" * 29_000
        path = b"/v1/auth/challenge/%s" % text
        yield b"GET /nope?%s HTTP/1.1\r\nHost: sigil\r\n\r\n" % text
        yield b"GET /health HTTP/1.1\r\nHost: sigil\r\nX-Request-Id: %s\r\n\r\n" % text
        yield b"GET %s/status HTTP/1.1\r\n%s\r\n" % (path, headers_with_key)
        yield b"DELETE /v1/auth/challenge/0 HTTP/1.1\r\nHost: sigil\r\nAuthorization: Bearer %s\r\n\r\n" % text
        yield b"GET /info HTTP/1.1\r\nHost: sigil\r\nX-Forwarded-For: %s\r\n\r\n" % text
        yield b"POST /challenge HTTP/1.1\r\n%sIdempotency-Key: %s\r\nContent-Length: 2\r\n\r\n{}" % (
            headers_with_key,
            text,
        )


def send_round(raw_client: RawClient, number: int) -> int:
    """Sends pipelines, floods and broken connections; returns the number of responses."""
    requests, responses = list(hostile_requests(raw_client.server.api_key, number)), 0
    for start in range(0, len(requests), 12):
        responses += raw_client.exchange(b"".join(requests[start : start + 12]) + END).count(b"HTTP/1.1 ")
        with raw_client.connect_tls() as connection:
            connection.sendall(requests[start][:-1])
    if number % 4 == 0:
        for flood in (*COSTLY_FLOODS.values(), *CHEAP_FLOODS.values()):
            exchange_frames(raw_client, flood)
    unread = b"".join(headers(2 * n + 1, HEALTH) for n in range(100))
    begun = b"".join(
        headers(2 * n + 1, POST, END_HEADERS) + frame(Kind.DATA, 2 * n + 1, b"{" * 500) for n in range(100)
    )
    for frames_sent in (settings(initial_window_size=0) + unread, begun):
        with raw_client.connect_tls("h2") as connection:
            connection.sendall(PREFACE + frames_sent)
    return responses


def test_memory_and_open_files_stay_flat_over_thousands_of_hostile_requests() -> None:
    """Uses a new server: in a server with history, a leak would first fill freed memory."""
    with LiveServer(workers=2, **UNLIMITED) as server:
        raw_client = RawClient(server)
        server_check = ServerCheck(server, raw_client)
        for number in range(WARM_UP_ROUNDS):
            send_round(raw_client, number)
        memory_before, files_before = memory(server), open_files(server)
        responses = sum(send_round(raw_client, number) for number in range(WARM_UP_ROUNDS, WARM_UP_ROUNDS + ROUNDS))
        assert responses > 6_000
        wait_until(lambda: open_files(server) <= files_before + 15, "the files of broken connections to be closed")
        wait_until(lambda: memory(server) <= memory_before + MAX_GROWTH, f"memory back at {memory_before >> 20} MiB")
        server_check.check()
        server_check.close()
