"""HTTP: paths, methods, bodies, protocol versions, and clients that misbehave."""

from __future__ import annotations

import contextlib
import json
import secrets
import uuid
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import httpx
import pytest

from .integrator import ACTION, Integrator, approval, assert_error, assert_ok, post, respond
from .server import Server, wait_until
from .wire import Device

LIMIT = 64 * 1024


def status_line(raw: bytes) -> int:
    assert raw.startswith(b"HTTP/1."), raw[:80]
    return int(raw.split(b" ", 2)[1])


@pytest.mark.parametrize("path", ["/", "/nope", "/challenge/", "/v1", "/v1/auth/challenge", "/respond/x", "/info.json"])
def test_an_unknown_path_is_not_found(server: Server, path: str) -> None:
    assert server.http.get(path).status_code in ({404, 200, 303, 302} if path == "/" else {404})
    if path != "/":
        assert_error(server.http.get(path), 404, "NOT_FOUND")
        assert_error(server.http.post(path, json={}), 404, "NOT_FOUND")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/challenge"),
        ("PUT", "/challenge"),
        ("GET", "/respond"),
        ("DELETE", "/respond"),
        ("GET", "/device/pending"),
        ("POST", "/health"),
        ("POST", "/info"),
        ("POST", f"/v1/auth/challenge/{uuid.UUID(int=7)}/status"),
        ("GET", f"/v1/auth/challenge/{uuid.UUID(int=7)}"),
        ("PATCH", f"/v1/auth/challenge/{uuid.UUID(int=7)}"),
    ],
)
def test_a_wrong_method_is_reported_before_a_missing_key(server: Server, method: str, path: str) -> None:
    assert_error(server.http.request(method, path), 405, "METHOD_NOT_ALLOWED")


@pytest.mark.parametrize("method", ["BREW", "TRACE", "PROPFIND", "get"])
def test_an_unusual_method_gets_a_4xx(server: Server, method: str) -> None:
    raw = f"{method} /challenge HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode()
    assert 400 <= status_line(server.exchange(raw)) < 500


def test_cross_origin_requests_get_no_cors_headers(server: Server) -> None:
    cors_headers = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    for answer in (
        server.http.options("/challenge", headers=cors_headers),
        server.http.get("/info", headers=cors_headers),
    ):
        assert not [name for name in answer.headers if name.lower().startswith("access-control")]


# Order of checks


def test_the_body_size_is_checked_before_the_key_and_the_key_before_the_body(owner: Integrator) -> None:
    large = b" " * (LIMIT + 1)
    json_type = {"Content-Type": "application/json"}
    assert_error(owner.server.http.post("/challenge", content=large, headers=json_type), 413, "PAYLOAD_TOO_LARGE")
    assert_error(owner.server.http.put("/challenge", content=large, headers=json_type), 405, "METHOD_NOT_ALLOWED")
    assert_error(owner.server.http.post("/nope", content=large, headers=json_type), 404, "NOT_FOUND")
    answer = owner.server.http.post("/nope", content=large)
    assert answer.headers["connection"] == "close"
    for headers in ({"Content-Type": "text/plain"}, json_type):
        assert_error(owner.server.http.post("/challenge", content=b"{", headers=headers), 401, "UNAUTHORIZED")
    assert_error(owner.post(b"{", **{"Content-Type": "text/plain"}), 415, "UNSUPPORTED_MEDIA_TYPE")


def padded(body: dict[str, Any], size: int) -> bytes:
    text = json.dumps(body).encode()
    return text + b" " * (size - len(text))


def in_chunks(body: bytes) -> Iterator[bytes]:
    for start in range(0, len(body), 10_000):
        yield body[start : start + 10_000]


@pytest.mark.parametrize("how", ["with a length", "in chunks"])
@pytest.mark.parametrize("path", ["/challenge", "/respond", "/device/pending"])
def test_a_body_of_64_kib_is_accepted_and_one_byte_more_is_rejected(
    owner: Integrator, device: Device, path: str, how: str
) -> None:
    server = owner.server
    if path == "/challenge":
        body: dict[str, Any] = {"device_public_key": device.public, "action": ACTION}
    elif path == "/respond":
        body = approval(device, owner.challenge(device))
    else:
        body = device.pending_body(server.identity.server_id)

    def send(size: int) -> httpx.Response:
        content: Any = padded(body, size)
        if how == "in chunks":
            content = in_chunks(content)
        with server.client() as client:
            return client.post(path, content=content, headers={**owner.headers, "Content-Type": "application/json"})

    assert_error(send(LIMIT + 1), 413, "PAYLOAD_TOO_LARGE")
    assert send(LIMIT).status_code in {200, 201}


def test_a_huge_content_length_is_rejected_without_reading_the_body(server: Server) -> None:
    raw = b"POST /respond HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 10000000000\r\n\r\n{"
    assert status_line(server.exchange(raw)) == 413


# Bodies


@pytest.mark.parametrize("kind", [None, "text/plain", "application/x-www-form-urlencoded", "text/json", "json", ""])
@pytest.mark.parametrize("path", ["/challenge", "/respond", "/device/pending"])
def test_another_media_type_is_rejected(owner: Integrator, path: str, kind: str | None) -> None:
    headers = owner.headers if kind is None else {**owner.headers, "Content-Type": kind}
    answer = owner.server.http.post(path, content=b"{}", headers=headers)
    assert_error(answer, 415, "UNSUPPORTED_MEDIA_TYPE")


@pytest.mark.parametrize(
    "kind", ["application/json; charset=utf-8", "Application/JSON", "application/json ;charset=UTF-8"]
)
def test_application_json_may_have_a_charset(owner: Integrator, device: Device, kind: str) -> None:
    content = json.dumps({"device_public_key": device.public, "action": ACTION}).encode()
    assert_ok(owner.post(content, **{"Content-Type": kind}), 201)


HOSTILE: dict[str, bytes] = {
    "nothing": b"",
    "blanks": b"  \n",
    "half an object": b'{"a":',
    "a list": b"[]",
    "a string": b'"x"',
    "a number": b"7",
    "null": b"null",
    "two objects": b"{}{}",
    "rubbish after the object": b"{}x",
    "a trailing comma": b'{"a":1,}',
    "single quotes": b"{'a':1}",
    "a comment": b"{/**/}",
    "a raw control character": b'{"a":"\x01"}',
    "invalid UTF-8": b'{"a":"\xff\xfe"}',
    "an overlong encoding": b'{"a":"\xc0\xaf"}',
    "a surrogate in UTF-8": b'{"a":"\xed\xa0\x80"}',
    "invalid UTF-8 in a name": b'{"\xff":1}',
    "UTF-16": '{"a":1}'.encode("utf-16"),
    "a byte order mark": b"\xef\xbb\xbf{}",
    "NaN": b'{"a":NaN}',
    "Infinity": b'{"a":-Infinity}',
    "a leading zero": b'{"a":01}',
    "10 000 lists": b'{"a":' + b"[" * 10_000 + b"]" * 10_000 + b"}",
    "10 000 objects": b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
    "10 000 lists never closed": b"[" * 10_000,
    "a member twice": b'{"challenge_id":"a","challenge_id":"b"}',
    "a member of 50 000 digits": b'{"expires_in_seconds":' + b"9" * 50_000 + b"}",
    "an exponent without end": b'{"expires_in_seconds":1e999999999}',
    "a zero byte": b"\x00",
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_body_is_an_invalid_request(owner: Integrator, kind: str) -> None:
    assert_error(owner.post(HOSTILE[kind]), 400, "INVALID_REQUEST")
    assert_error(post(owner.server, "/respond", HOSTILE[kind]), 400, "INVALID_REQUEST")
    assert_error(post(owner.server, "/device/pending", HOSTILE[kind]), 400, "INVALID_REQUEST")


def post_with_unknown_member(owner: Integrator, device: Device, unknown: bytes) -> Any:
    """Posts a valid request with one more member, of any bytes."""
    text = json.dumps({"device_public_key": device.public, "action": ACTION}).encode()
    return owner.post(text[:-1] + b',"unknown":' + unknown + b"}")


@pytest.mark.parametrize(
    "unknown",
    [
        b"[" * 10_000 + b"]" * 10_000,
        b'{"a":' * 3_000 + b"1" + b"}" * 3_000,
        b'"\xff"',
        b"NaN",
        b'1,"unknown":2',
        b'1,"action":{"type":"other","description":"x"}',
        b'1,"device_public_key":null',
    ],
)
def test_unknown_members_must_be_valid_json(owner: Integrator, device: Device, unknown: bytes) -> None:
    assert_error(post_with_unknown_member(owner, device, unknown), 400, "INVALID_REQUEST")


def test_a_duplicate_member_of_a_response_is_rejected(owner: Integrator, device: Device) -> None:
    challenge = owner.challenge(device)
    text = json.dumps(approval(device, challenge)).encode()
    assert_error(respond(owner.server, text[:-1] + b',"decision":"rejected"}'), 400, "INVALID_REQUEST")
    assert owner.state(challenge["challenge_id"])["status"] == "pending"


def test_errors_have_no_traceback(owner: Integrator) -> None:
    marker = secrets.token_hex(12)
    body = {"device_public_key": marker, "action": {"type": marker.upper(), "description": marker}}
    for answer in (owner.post(body), respond(owner.server, {"challenge_id": marker, "signature": marker, marker: 1})):
        assert 400 <= answer.status_code < 500
        assert "Traceback" not in answer.text


# HTTP versions and framing


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_http_1_0_and_1_1_work_without_alpn(owner: Integrator, device: Device, version: str) -> None:
    body = json.dumps({"device_public_key": device.public, "action": ACTION})
    head = f"Host: x\r\nConnection: close\r\nAuthorization: Bearer {owner.key}\r\nContent-Type: application/json\r\n"
    raw = owner.server.exchange(
        f"POST /challenge HTTP/{version}\r\n{head}Content-Length: {len(body)}\r\n\r\n{body}".encode()
    )
    assert status_line(raw) == 201
    created = json.loads(raw.partition(b"\r\n\r\n")[2])
    raw = owner.server.exchange(
        f"GET /v1/auth/challenge/{created['challenge_id']}/status HTTP/{version}\r\n{head}\r\n".encode()
    )
    assert status_line(raw) == 200


def test_http_1_0_needs_no_host(server: Server) -> None:
    raw = server.exchange(b"GET /health HTTP/1.0\r\n\r\n")
    assert status_line(raw) == 200
    assert json.loads(raw.partition(b"\r\n\r\n")[2])["status"] == "healthy"
    assert status_line(server.exchange(b"GET /nope HTTP/1.0\r\n\r\n")) == 404


def test_a_complete_challenge_works_over_http_2(owner: Integrator, device: Device) -> None:
    with owner.server.client(http1=False, http2=True) as client:
        body = {"device_public_key": device.public, "action": ACTION}
        created = client.post("/challenge", json=body, headers=owner.headers)
        assert created.http_version == "HTTP/2"
        challenge = assert_ok(created, 201)
        assert_ok(client.post("/respond", json=approval(device, challenge)))
        path = f"/v1/auth/challenge/{challenge['challenge_id']}/status"
        assert assert_ok(client.get(path, headers=owner.headers, params={"wait": 25}))["status"] == "verified"
        assert_error(client.get("/nope"), 404, "NOT_FOUND")


def test_pipelined_requests_are_answered_in_order(server: Server) -> None:
    one = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"
    last = b"GET /info HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    not_found = b"GET /nope HTTP/1.1\r\nHost: x\r\n\r\n"
    raw = server.exchange(one + not_found + one + last)
    statuses = [int(part[:3]) for part in raw.split(b"HTTP/1.1 ")[1:]]
    assert statuses == [200, 404, 200, 200]
    assert raw.index(b'"healthy"') < raw.index(b"NOT_FOUND") < raw.index(b"server_id")


def test_a_request_after_a_body_is_answered(server: Server) -> None:
    body = b'{"challenge_id":"x"}'
    head = b"POST /respond HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    health = b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    raw = server.exchange(head + b"Content-Length: %d\r\n\r\n" % len(body) + body + health)
    assert [int(part[:3]) for part in raw.split(b"HTTP/1.1 ")[1:]] == [400, 200]


@pytest.mark.parametrize(
    "raw",
    [
        b"GET\r\n\r\n",
        b"GET /health\r\n\r\n",
        b"GET /health HTTP/9.9\r\n\r\n",
        b"\x00\x01\x02\x03\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost x\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: x\r\nBad Name: 1\r\n\r\n",
        b"POST /respond HTTP/1.1\r\nHost: x\r\nContent-Length: abc\r\n\r\n",
        b"POST /respond HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
        b"POST /respond HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n{}   ",
        b"POST /respond HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: x\r\nX-Large: " + b"a" * 600_000 + b"\r\n\r\n",
    ],
    ids=lambda raw: raw[:30].decode("latin-1").encode("unicode_escape").decode(),
)
def test_malformed_http_gets_a_4xx_or_a_closed_connection(server: Server, raw: bytes) -> None:
    answer = server.exchange(raw)
    assert answer == b"" or 400 <= status_line(answer) < 500
    assert server.fetch("GET", "/health").status == 200


@pytest.mark.parametrize("path", ["//", "/%", "/%zz", "/%ff%fe", "/health%00", "/health?%ff=%fe", "/../health", "*"])
def test_an_odd_target_never_causes_a_5xx(server: Server, path: str) -> None:
    answer = server.exchange(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    assert status_line(answer) < 500


def test_odd_headers_never_cause_a_5xx(owner: Integrator) -> None:
    odd = (
        b"X-Odd: \xff\xfe\r\nAuthorization: Bearer \xff\xfe\r\nX-Forwarded-For: \xff, not an address\r\nCookie: =;=\r\n"
    )
    raw = b"POST /challenge HTTP/1.1\r\nHost: \xff\r\nConnection: close\r\n" + odd + b"Content-Length: 0\r\n\r\n"
    assert 400 <= status_line(owner.server.exchange(raw)) < 500


def test_plain_http_on_the_tls_port_does_no_harm(server: Server) -> None:
    with contextlib.suppress(httpx.HTTPError), httpx.Client(trust_env=False, timeout=60) as client:
        client.get(f"http://127.0.0.1:{server.port}/health")
    assert server.fetch("GET", "/health").status == 200


def open_files(server: Server) -> int:
    return sum(len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in server.workers())


def test_broken_connections_leave_no_open_files(server: Server) -> None:
    head = b"POST /respond HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 500\r\n\r\n"
    before = open_files(server)
    for i in range(60):
        with server.socket() as connection:
            connection.sendall(head[: 40 + i] if i % 2 else head + b'{"challenge_id":')
    assert server.fetch("GET", "/health").status == 200
    wait_until(lambda: open_files(server) <= before + 15, failure="files stay open after connections were cut")


@pytest.mark.parametrize("kind", ["half", "drip"])
def test_a_body_that_does_not_arrive_is_ended(slow_bodies: dict[str, Future[tuple[float, bytes]]], kind: str) -> None:
    seconds, answer = slow_bodies[kind].result(180)
    assert seconds >= 9
    assert answer == b"" or 400 <= status_line(answer) < 500
