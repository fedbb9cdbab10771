"""HTTP/2 (RFC 9113) frame by frame: what a library that keeps to the rules would not send."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator

import h2.config
import h2.connection

from deploy.providers.frames import END_HEADERS, END_STREAM, Kind, frame
from tests.hostile.stranger import Answer, Stranger

# The highest number that a stream may have: for the request that comes last.
LAST = 2**31 - 1


def settings(**values: int) -> bytes:
    numbers = {"header_table_size": 1, "initial_window_size": 4, "max_frame_size": 5}
    return frame(Kind.SETTINGS, 0, b"".join(struct.pack(">HI", numbers[name], value) for name, value in values.items()))


PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + settings()


def block(*fields: tuple[str, str]) -> bytes:
    """Fields as HPACK literals without index and without Huffman: any bytes may stand in them."""
    parts = []
    for text in (text for one in fields for text in one):
        size = len(text)
        parts.append(bytes([size]) if size < 127 else b"\x7f" + _continued(size - 127))
        parts.append(text.encode("latin-1"))
    return b"".join(b"\x00" + b"".join(parts[at : at + 4]) for at in range(0, len(parts), 4))


def _continued(rest: int) -> bytes:
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


HEALTH = block(*fields())
POST = block(*fields("POST", "/respond", content_type="application/json"))


def _frames(raw: bytes, at: int = 0) -> Iterator[tuple[int, int, int, int, bytes]]:
    """Those that are whole: where each ends, its kind, its flags, its stream and what it carries."""
    while len(raw) >= at + 9:
        kind, flags, stream = raw[at + 3], raw[at + 4], int.from_bytes(raw[at + 5 : at + 9], "big") & LAST
        payload = at + 9
        at = payload + int.from_bytes(raw[at : at + 3], "big")
        if len(raw) >= at:
            yield at, kind, flags, stream, raw[payload:at]


def all_end(streams: Iterable[int]) -> Callable[[bytes], bool]:
    """Whether all these streams have ended by now, asked again and again of what came so far."""
    left, at = set(streams), 0

    def ended(raw: bytes) -> bool:
        nonlocal at
        for end, kind, flags, stream, _ in _frames(raw, at):
            at = end
            if kind == Kind.RST_STREAM or (kind in {Kind.DATA, Kind.HEADERS} and flags & END_STREAM):
                left.discard(stream)
        return not left

    return ended


def read(raw: bytes) -> dict[int, Answer]:
    """The answers of a connection, by their streams."""
    answers: dict[int, Answer] = {}
    decoder = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True)).decoder
    for _, kind, _, stream, payload in _frames(raw):
        if kind == Kind.HEADERS:
            given = dict(decoder.decode(payload))
            answers[stream] = Answer(int(given.pop(":status")), given, b"")
        elif kind == Kind.DATA:
            begun = answers[stream]
            answers[stream] = Answer(begun.status, begun.headers, begun.body + payload)
    return answers


def talk(stranger: Stranger, *said: bytes, awaited: Iterable[int] = ()) -> dict[int, Answer]:
    """Everything at once, with a question after health at the end; until that and others are answered, or the end.

    No answer is a failure of the server, and where there is one to the last question, it is a good one.
    """
    raw = PREFACE + b"".join(said) + headers(LAST, HEALTH)
    answers = read(stranger.exchange(raw, "h2", all_end({*awaited, LAST})))
    assert all(answer.status < 500 for answer in answers.values()), answers
    assert LAST not in answers or answers[LAST].status == 200
    return answers
