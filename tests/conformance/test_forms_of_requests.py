"""Forms of a request that clients and proxies differ in (docs/protocol.md, 4.1)."""

from __future__ import annotations

import gzip
import json

import httpx
import pytest

from .integrator import ACTION, Integrator, approval, assert_error, assert_ok
from .server import Server
from .wire import Device


def message_of(answer: httpx.Response, status: int, code: str) -> str:
    assert_error(answer, status, code)
    message: str = answer.json()["error"]["message"]
    return message


def test_an_id_is_accepted_in_either_case_and_sent_in_lower_case(owner: Integrator, device: Device) -> None:
    """RFC 9562, section 4."""
    challenge = owner.challenge(device)
    lower, upper = challenge["challenge_id"], challenge["challenge_id"].upper()
    assert lower != upper
    assert owner.state(upper)["challenge_id"] == lower
    answer = approval(device, challenge) | {"challenge_id": upper}
    assert_ok(owner.server.http.post("/respond", json=answer), 200)
    assert owner.state(upper)["status"] == "verified"
    cancelled = owner.cancel(owner.challenge(device)["challenge_id"].upper())
    assert cancelled.json()["challenge_id"] == cancelled.json()["challenge_id"].lower()
    # It is the same id: an answer in another case is a repetition.
    again = owner.server.http.post("/respond", json=approval(device, challenge))
    assert_error(again, 409, "CHALLENGE_ALREADY_USED")
    for other in (f"{{{lower}}}", f"urn:uuid:{lower}", lower.replace("-", ""), f"{lower} "):
        assert_error(owner.status(other), 404, "CHALLENGE_NOT_FOUND")


def test_head_is_answered_like_get(owner: Integrator, device: Device) -> None:
    """RFC 9110, 9.3.2: the same fields, no body."""
    path = f"/v1/auth/challenge/{owner.challenge(device)['challenge_id']}/status"
    for target in ("/health", "/info", "/openapi.json", "/metrics", path):
        get = owner.server.http.get(target, headers=owner.headers)
        head = owner.server.http.head(target, headers=owner.headers)
        assert (head.status_code, head.content) == (get.status_code, b""), target
        assert head.headers["content-type"] == get.headers["content-type"]
        assert int(head.headers["content-length"]) > 0
    assert owner.server.http.head(path).status_code == 401
    assert owner.server.http.head("/challenge").status_code == 405
    assert owner.server.http.head("/nope").status_code == 404


def test_options_lists_the_methods_and_needs_no_key(server: Server) -> None:
    for path, methods in (("/challenge", {"POST"}), ("/health", {"GET", "HEAD"})):
        answer = server.http.options(path)
        assert (answer.status_code, answer.content) == (200, b"")
        assert set(answer.headers["allow"].split(", ")) - {"OPTIONS"} == methods
        refused = server.http.patch(path)
        assert set(refused.headers["allow"].split(", ")) - {"OPTIONS"} == methods
    assert server.http.options("/nope").status_code == 404


def test_a_byte_order_mark_is_named(owner: Integrator, device: Device) -> None:
    body = json.dumps({"device_public_key": device.public, "action": ACTION}).encode()
    for prefix in (b"\xef\xbb\xbf", b"\xff\xfe"):
        assert "byte order mark" in message_of(owner.post(prefix + body), 400, "INVALID_REQUEST")
    assert "empty" in message_of(owner.post(b""), 400, "INVALID_REQUEST")


@pytest.mark.parametrize("coding", ["gzip", "br", "deflate", "x-gzip", "aes128gcm", "identity, gzip"])
def test_a_compressed_body_is_an_unsupported_media_type(owner: Integrator, device: Device, coding: str) -> None:
    """RFC 9110, 8.4 and 15.5.16. The key comes first, and identity is no coding."""
    body = gzip.compress(json.dumps({"device_public_key": device.public, "action": ACTION}).encode())
    answer = owner.post(body, **{"Content-Encoding": coding})
    assert "Content-Encoding" in message_of(answer, 415, "UNSUPPORTED_MEDIA_TYPE")
    assert answer.headers["accept-encoding"] == "identity"
    plain = owner.post(gzip.decompress(body), **{"Content-Encoding": "Identity"})
    assert plain.status_code == 201
    assert owner.post(body, **{"Content-Encoding": coding, "Authorization": "Bearer x"}).status_code == 401


def test_a_compressed_transfer_is_an_unsupported_media_type(server: Server) -> None:
    """The HTTP server passes `gzip, chunked` on without decoding gzip."""
    head = b"POST /respond HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\n"
    for coding, status in ((b"gzip, chunked", b"415"), (b"chunked", b"400"), (b"Chunked", b"400")):
        answer = server.exchange(head + b"Transfer-Encoding: " + coding + b"\r\n\r\n2\r\n{}\r\n0\r\n\r\n")
        assert answer.split(b" ", 2)[1] == status, coding


def test_a_query_parameter_is_given_once_and_unknown_ones_do_not_matter(owner: Integrator, device: Device) -> None:
    path = f"/v1/auth/challenge/{owner.challenge(device)['challenge_id']}/status"
    for query, status in {
        "?wait=0": 200,
        "?wait=0&unknown=1": 200,
        "?Wait=90": 200,
        "?unknown=%ff&&=": 200,
        "?wait=%30": 200,
        "?wait=0&wait=0": 400,
        "?wait=0&wait=1": 400,
        "?wait=": 400,
        "?wait=-1": 400,
        "?wait=0,1": 400,
        "?wait=26": 400,
    }.items():
        answer = owner.server.http.get(path + query, headers=owner.headers)
        assert answer.status_code == status, query
        if status == 400:
            assert assert_error(answer, 400, "INVALID_REQUEST") == {"path": "wait"}


def test_accept_and_a_charset_do_not_change_the_response(owner: Integrator, device: Device) -> None:
    """JSON has one encoding (RFC 8259, 8.1), and the API one representation."""
    body = json.dumps({"device_public_key": device.public, "action": ACTION}).encode()
    for fields in (
        {"Accept": "text/html"},
        {"Accept": "application/xml;q=1"},
        {"Accept": "nonsense"},
        {"Content-Type": "APPLICATION/JSON"},
        {"Content-Type": 'application/json; charset="UTF-8"'},
        {"Content-Type": "application/json; charset=iso-8859-1"},
        {"Content-Type": "application/json;"},
    ):
        answer = owner.post(body, **fields)
        assert answer.status_code == 201, fields
        assert answer.headers["content-type"] == "application/json"
        owner.cancel(answer.json()["challenge_id"])


def test_a_message_says_what_a_member_must_be(owner: Integrator, device: Device) -> None:
    message = message_of(owner.create(device, {"type": "Log in", "description": "x"}), 400, "INVALID_REQUEST")
    assert message.startswith("action.type must be 1 to 64 characters of ")
    message = message_of(owner.create(device, expires_in_seconds=5), 400, "INVALID_REQUEST")
    assert message == "expires_in_seconds must be a whole number from 30 to 300."
