"""HTTP/1 in raw bytes: floods of header fields, version 1.0, upgrades, and oversized bodies."""

from __future__ import annotations

import itertools
import json
import re

import pytest

from tests.hostile.json_values import INVALID_JSON
from tests.hostile.raw_client import RawClient, error_code
from tests.support.live import LiveServer

CLOSE = b"Host: sigil\r\nConnection: close\r\n"
JSON_TYPE = b"Content-Type: application/json\r\n"
MEBIBYTE = 1 << 20


def get_request(fields: bytes, target: bytes = b"/nope") -> bytes:
    return b"GET %s HTTP/1.1\r\n%s%s\r\n" % (target, CLOSE, fields)


ALLOWED_FIELDS = {
    "100 fields": b"".join(b"X-%d: 1\r\n" % n for n in range(98)),
    "the same field 98 times": b"X-Forwarded-For: 192.0.2.1, 192.0.2.2\r\n" * 98,
    "98 keys": b"Authorization: Bearer sgk_test_x\r\n" * 98,
    "98 cookies": b"Cookie: a=b; c=d\r\n" * 98,
    "a field of 24 KiB": b"X-Large: " + b"a" * 24_576 + b"\r\n",
    "a name of 24 KiB": b"X-" + b"a" * 24_576 + b": 1\r\n",
    "an address list of 24 KiB": b"X-Forwarded-For: " + b"::1," * 6_144 + b"\r\n",
    "empty values": b"X-Nothing:\r\n" * 98,
}
REJECTED_FIELDS = {
    "101 fields": b"".join(b"X-%d: 1\r\n" % n for n in range(99)),
    "5 000 fields": b"".join(b"X-%d: 1\r\n" % n for n in range(5_000)),
    "50 000 fields": b"X: 1\r\n" * 50_000,
    "a field of 1 MiB": b"X-Large: " + b"a" * MEBIBYTE + b"\r\n",
    "a field of 1 MiB that does not end": b"X-Large: " + b"a" * MEBIBYTE,
    "a name of 1 MiB": b"a" * MEBIBYTE + b": 1\r\n",
}


@pytest.mark.parametrize("kind", ALLOWED_FIELDS)
def test_many_and_long_fields_within_the_limits_are_accepted(raw_client: RawClient, kind: str) -> None:
    (answer,) = raw_client.responses(get_request(ALLOWED_FIELDS[kind]))
    assert (answer.status, error_code(answer)) == (404, "NOT_FOUND")
    (answer,) = raw_client.responses(get_request(ALLOWED_FIELDS[kind], b"/health"))
    assert answer.status == 200


@pytest.mark.parametrize("kind", REJECTED_FIELDS)
def test_fields_beyond_the_limits_get_an_empty_431_or_a_closed_connection(raw_client: RawClient, kind: str) -> None:
    for answer in raw_client.responses(get_request(REJECTED_FIELDS[kind])):
        assert (answer.status, answer.body) == (431, b"")


@pytest.mark.parametrize("query", [b"wait=1&" * 2_500, b"&" * 20_000, b"wait=" + b"9" * 20_000, b"%00=%ff&" * 2_000])
def test_a_query_of_many_parameters_gets_one_response(raw_client: RawClient, query: bytes) -> None:
    for path in (b"/health", b"/v1/auth/challenge/11111111-1111-4111-8111-111111111111/status"):
        key = b"Authorization: Bearer %s\r\n" % raw_client.server.api_key.encode()
        (answer,) = raw_client.responses(get_request(key, path + b"?" + query))
        assert answer.status == 200 or error_code(answer) in {"INVALID_REQUEST", "CHALLENGE_NOT_FOUND"}


@pytest.mark.parametrize("kind", INVALID_JSON)
def test_http_1_0_gets_the_same_errors(raw_client: RawClient, kind: str) -> None:
    """Without a Host field."""
    body = b'{"signature":%s}' % INVALID_JSON[kind]
    framed = b"Content-Length: %d\r\n\r\n%s" % (len(body), body)
    (answer,) = raw_client.responses(b"POST /respond HTTP/1.0\r\n" + JSON_TYPE + framed)
    assert (answer.status, error_code(answer)) == (400, "INVALID_REQUEST")


def test_an_upgrade_is_ignored(raw_client: RawClient) -> None:
    websocket = b"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    h2c = b"Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n"
    for upgrade, path in itertools.product(
        (websocket, websocket[:20] + b"\r\n", h2c), (b"/health", b"/respond", b"/nope")
    ):
        head = b"GET %s HTTP/1.1\r\nHost: sigil\r\nConnection: Upgrade, HTTP2-Settings\r\n%s\r\n" % (path, upgrade)
        first, second = raw_client.responses(head + get_request(b""))
        assert first.status == {b"/health": 200, b"/respond": 405, b"/nope": 404}[path]
        assert error_code(second) == "NOT_FOUND"


TYPES = [b"application/json" + more for more in (b"x", b"/", b"\xff", b", text/plain", b" x", b"+json")]
TYPES += [b"application/*", b"*/*", b"\xef\xbb\xbfapplication/json", b"text/json;application/json", b"a" * 24_576]
TYPES += [b"multipart/form-data; boundary=" + b"-" * 20_000, b"application/xml"]


@pytest.mark.parametrize("kind", TYPES, ids=lambda kind: ascii(kind[:40]))
def test_a_content_type_similar_to_json_is_rejected(raw_client: RawClient, kind: bytes) -> None:
    for path in ("/challenge", "/respond", "/device/pending"):
        key = b"Authorization: Bearer %s\r\n" % raw_client.server.api_key.encode()
        typed = b"Content-Type: %s\r\nContent-Length: 2\r\n\r\n{}" % kind
        (answer,) = raw_client.responses(b"POST %s HTTP/1.1\r\n%s%s%s" % (path.encode(), CLOSE, key, typed))
        assert (answer.status, error_code(answer)) == (415, "UNSUPPORTED_MEDIA_TYPE")


@pytest.mark.parametrize("request_id", [b"\xff\xfe", b"", b"a b", b'"', b"a\tb", b"%0d%0a", b"a" * 65, b"x" * 24_576])
def test_an_invalid_request_id_is_replaced(raw_client: RawClient, request_id: bytes) -> None:
    (answer,) = raw_client.responses(get_request(b"X-Request-Id: %s\r\n" % request_id))
    assert re.fullmatch("[0-9a-f]{16,64}", answer.headers["x-request-id"])


@pytest.mark.parametrize("path", ["/challenge", "/respond", "/device/pending"])
@pytest.mark.parametrize("how", ["with a length", "in chunks", "over HTTP/2"])
def test_a_body_of_one_mebibyte_is_too_large(server: LiveServer, path: str, how: str) -> None:
    http2 = how == "over HTTP/2"
    with server.client(http1=not http2, http2=http2, headers={"Content-Type": "application/json"}) as client:
        for piece in (b"[", b'{"a":', b'"\xff', b"9", b"\x00", b'{"a":1,"a":1},'):
            body = (piece * MEBIBYTE)[:MEBIBYTE]
            chunks = (body[start : start + 5_000] for start in range(0, MEBIBYTE, 5_000))
            answer = client.post(path, content=chunks if how == "in chunks" else body)
            assert (answer.status_code, answer.json()["error"]["code"]) == (413, "PAYLOAD_TOO_LARGE"), piece
        assert client.get("/health").status_code == 200


def test_a_body_in_chunks_of_one_byte_is_accepted(raw_client: RawClient) -> None:
    body = json.dumps({"signature": "A" * 5_000}).encode()
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in body) + b"0\r\n\r\n"
    head = b"POST /respond HTTP/1.1\r\n" + CLOSE + JSON_TYPE + b"Transfer-Encoding: chunked\r\n\r\n"
    (answer,) = raw_client.responses(head + chunks)
    assert (answer.status, error_code(answer)) == (400, "INVALID_REQUEST")


@pytest.mark.parametrize(
    "chunks",
    [
        b"2;" + b"a" * 100_000 + b"\r\n{}\r\n0\r\n\r\n",
        b"2\r\n{}\r\n0\r\n" + b"T: 1\r\n" * 20_000 + b"\r\n",
        b"2\r\n{}\r\n0\r\nT: " + b"1" * 100_000 + b"\r\n\r\n",
        b"10000000000000000\r\n{}\r\n0\r\n\r\n",
        b"-2\r\n{}\r\n0\r\n\r\n",
        b"2\r\n{}}0\r\n\r\n",
    ],
    ids=["a long extension", "many trailers", "a long trailer", "over 64 bits", "a negative size", "no line between"],
)
def test_oversized_and_malformed_chunks_are_rejected(raw_client: RawClient, chunks: bytes) -> None:
    head = b"POST /respond HTTP/1.1\r\n" + CLOSE + JSON_TYPE + b"Transfer-Encoding: chunked\r\n\r\n"
    for answer in raw_client.responses(head + chunks):
        assert answer.body == b"" or error_code(answer) == "INVALID_REQUEST"
        assert answer.status == 400
