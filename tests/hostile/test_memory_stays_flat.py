"""Hostile input leaves nothing behind: neither memory nor open files, however much of it there was."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tests.hostile.http_2 import END_HEADERS, HEALTH, POST, PREFACE, Kind, frame, headers, settings, talk
from tests.hostile.stranger import Stranger
from tests.hostile.test_http_2_floods import BORNE, ENDED
from tests.hostile.values import JSON, NOT_JSON
from tests.hostile.watch import UNLIMITED, Watch
from tests.support.live import LiveServer, wait_until

BOUND = 16 << 20
"""More than ten times what was seen; a body or a field of requests of one kind that is kept would be over it."""
WARM, ROUNDS = 2, 8
END = b"GET /nope HTTP/1.1\r\nHost: sigil\r\nConnection: close\r\n\r\n"


def memory(server: LiveServer) -> int:
    """Bytes that the workers hold together, shared ones counted once."""
    total = 0
    for pid in server.workers():
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
        total += next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total << 10


def open_files(server: LiveServer) -> int:
    return sum(len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in server.workers())


def hostile_requests(key: str, number: int) -> Iterator[bytes]:
    """A round of them, each about as large as is let in, and unlike those of all other rounds."""
    known = b"Host: sigil\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\n" % key.encode()
    values = [*JSON.values(), *NOT_JSON.values(), b"A" * 70_000]
    for path, name in ((b"/challenge", b"action"), (b"/respond", b"signature"), (b"/device/pending", b"timestamp")):
        for place, value in enumerate(values):
            body = b'{"%d":%d,"%s":%s}' % (number, number, name, value)
            body = body.ljust(60_000) if place % 2 else body
            yield b"POST %s HTTP/1.1\r\n%sContent-Length: %d\r\n\r\n%s" % (path, known, len(body), body)
    for place in range(100):
        text = b"%d.%d." % (number, place) + b"x" * 29_000
        path = b"/v1/auth/challenge/%s" % text
        yield b"GET /nope?%s HTTP/1.1\r\nHost: sigil\r\n\r\n" % text
        yield b"GET /health HTTP/1.1\r\nHost: sigil\r\nX-Request-Id: %s\r\n\r\n" % text
        yield b"GET %s/status HTTP/1.1\r\n%s\r\n" % (path, known)
        yield b"DELETE /v1/auth/challenge/0 HTTP/1.1\r\nHost: sigil\r\nAuthorization: Bearer %s\r\n\r\n" % text
        yield b"GET /info HTTP/1.1\r\nHost: sigil\r\nX-Forwarded-For: %s\r\n\r\n" % text
        yield b"POST /challenge HTTP/1.1\r\n%sIdempotency-Key: %s\r\nContent-Length: 2\r\n\r\n{}" % (known, text)


def send_round(stranger: Stranger, number: int) -> int:
    """Pipelines, floods and broken connections; how many answers came."""
    requests, answered = list(hostile_requests(stranger.server.api_key, number)), 0
    for start in range(0, len(requests), 12):
        answered += stranger.exchange(b"".join(requests[start : start + 12]) + END).count(b"HTTP/1.1 ")
        with stranger.secured() as connection:
            connection.sendall(requests[start][:-1])
    if number % 4 == 0:
        for flood in (*ENDED.values(), *BORNE.values()):
            talk(stranger, flood)
    unread = b"".join(headers(2 * n + 1, HEALTH) for n in range(100))
    begun = b"".join(
        headers(2 * n + 1, POST, END_HEADERS) + frame(Kind.DATA, 2 * n + 1, b"{" * 500) for n in range(100)
    )
    for said in (settings(initial_window_size=0) + unread, begun):
        with stranger.secured("h2") as connection:
            connection.sendall(PREFACE + said)
    return answered


def test_thousands_of_hostile_requests_leave_nothing_behind() -> None:
    """A server of its own: in one that has seen much, what leaks would first fill what was freed."""
    with LiveServer(workers=2, **UNLIMITED) as server:
        stranger = Stranger(server)
        watch = Watch(server, stranger)
        for number in range(WARM):
            send_round(stranger, number)
        memory_before, files_before = memory(server), open_files(server)
        answered = sum(send_round(stranger, number) for number in range(WARM, WARM + ROUNDS))
        assert answered > 6_000
        wait_until(lambda: open_files(server) <= files_before + 15, "the files of broken connections to be closed")
        wait_until(lambda: memory(server) <= memory_before + BOUND, f"memory back at {memory_before >> 20} MiB")
        watch.check()
        watch.close()
