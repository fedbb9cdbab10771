"""Every well-formed HTTP request gets a response, in the order of the requests, and never a 5xx."""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from sigil import __version__
from sigil.resources.openapi.document import document
from tests.hostile.json_values import INVALID_JSON, VALID_JSON
from tests.hostile.raw_client import RawClient, error_code

TOKEN = "!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
# Characters that a target may contain unescaped.
CHARACTERS = "abcXYZ019-._~!$&'()*+,;=:@/"
METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "QUERY", "post"]
PATHS = [
    path.replace("{challenge_id}", "11111111-1111-4111-8111-111111111111") for path in document(__version__)["paths"]
]
NAMES = """Accept Accept-Encoding Authorization Cache-Control Content-Encoding Content-Language Content-Type Cookie Date
Forwarded From Host Idempotency-Key If-Match If-Modified-Since If-None-Match Max-Forwards Origin Range Referer TE
Traceparent Trailer User-Agent Via X-Forwarded-For X-Forwarded-Host X-Forwarded-Proto X-HTTP-Method-Override
X-Real-IP CF-Connecting-IP""".split()
VALUES = [
    "application/json",
    "multipart/form-data; boundary=",
    "Bearer ",
    "Bearer sgk_test_",
    "bytes=0-",
    "*",
    "0",
    "-1",
]
VALUES += ["gzip", "127.0.0.1, ::1, unknown", 'for="[::1]:99999"', "a=b; c", "Thu, 32 Foo 2026 99:99:99 GMT", ","]
# These fields change where a request ends, or are set by the test itself.
FRAMING = {"connection", "content-length", "expect", "keep-alive", "transfer-encoding", "upgrade", "x-request-id"}

escapes = st.binary(min_size=1, max_size=4).map(lambda raw: "".join(f"%{byte:02x}" for byte in raw))
pieces = st.text(CHARACTERS, max_size=8) | escapes
queries = st.lists(
    pieces | st.sampled_from(["wait=0", "wait=-1", "wait=0x1", "wait=%00", "wait", "wait=26"]), max_size=3
)
targets = st.builds(
    lambda path, more, query: path + "".join(more) + "?" * bool(query) + "&".join(query),
    st.sampled_from(PATHS) | pieces.map("/".__add__),
    st.lists(pieces, max_size=2),
    queries,
)
fields = st.tuples(
    st.sampled_from(NAMES) | st.text(TOKEN, min_size=1, max_size=20).filter(lambda name: name.lower() not in FRAMING),
    st.sampled_from(VALUES).map(str.encode)
    | st.binary(max_size=30).map(lambda raw: bytes(byte for byte in raw if byte >= 0x20 and byte != 0x7F)),
)
documents = st.dictionaries(
    st.text(max_size=3) | st.sampled_from(["device_public_key", "action", "challenge_id", "signature", "timestamp"]),
    st.sampled_from([*VALID_JSON.values(), *INVALID_JSON.values()]).filter(lambda raw: len(raw) < 2_000),
    max_size=4,
).map(lambda members: b"{%s}" % b",".join(json.dumps(name).encode() + b":" + raw for name, raw in members.items()))
bodies = st.just(b"") | st.binary(max_size=50) | documents


def with_framing(body: bytes, cuts: list[int] | None) -> bytes:
    """A body with its framing fields: a length, or chunks."""
    if cuts is None:
        return b"Content-Length: %d\r\n\r\n%s" % (len(body), body)
    places = [0, *sorted({cut for cut in cuts if cut < len(body)} - {0}), len(body)]
    parts = [body[start:end] for start, end in itertools.pairwise(places) if start < end]
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts)
    return b"Transfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"


@dataclass(frozen=True)
class Request:
    method: str
    target: str
    fields: list[tuple[str, bytes]]
    body: bytes
    cuts: list[int] | None
    authorised: bool

    def raw(self, number: int, last: bool, key: str) -> bytes:
        head = f"{self.method} {self.target} HTTP/1.1\r\nHost: sigil\r\nX-Request-Id: request-{number}\r\n".encode()
        more_fields = b"".join(b"%s: %s\r\n" % (name.encode(), value) for name, value in self.fields)
        if self.authorised:
            head += f"Content-Type: application/json\r\nAuthorization: Bearer {key}\r\n".encode()
        return head + more_fields + b"Connection: close\r\n" * last + with_framing(self.body, self.cuts)


methods = st.sampled_from(METHODS) | st.text(TOKEN, min_size=1, max_size=10)
cuts = st.none() | st.lists(st.integers(1, 200), max_size=5)
requests = st.builds(Request, methods, targets, st.lists(fields, max_size=5), bodies, cuts, st.booleans())


@settings(max_examples=200)
@given(requests_sent=st.lists(requests, min_size=1, max_size=5))
def test_pipelined_requests_are_answered_in_order(raw_client: RawClient, requests_sent: list[Request]) -> None:
    key, last = raw_client.server.api_key, len(requests_sent) - 1
    raw = b"".join(request.raw(number, number == last, key) for number, request in enumerate(requests_sent))
    answers = raw_client.responses(raw, *(request.method for request in requests_sent))
    assert [answer.headers["x-request-id"] for answer in answers] == [f"request-{n}" for n in range(len(answers))]
    # After a body that it does not read, the server may close the connection: HTTP/1 has no other way to skip it.
    assert len(answers) == len(requests_sent) or answers[-1].headers["connection"] == "close"
    for request, answer in zip(requests_sent, answers, strict=False):
        if answer.status >= 400 and request.method != "HEAD":
            error_code(answer)
