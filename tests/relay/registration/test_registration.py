"""Registration: devices by their signature over a nonce, servers by trust; no request works twice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import pytest

from sigil.device import Device
from sigil.protocol.keys import SUITES, Suite
from tests.relay.conftest import wanted
from tests.relay.devices_of_relay import register, registration, sign
from tests.support.live import DEADLINE, wait_until
from tests.support.live_relay import LiveRelay, Server

_numbers = count(2)


@pytest.fixture
def http(relay: LiveRelay) -> Any:
    """A client with an address of its own for each test: registrations are limited by address."""
    number = next(_numbers)
    transport = httpx.HTTPTransport(local_address=f"127.0.{number // 250 + 1}.{number % 250 + 1}")
    with relay.client(transport=transport) as client:
        yield client


def code(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


@pytest.mark.parametrize("suite", SUITES)
def test_a_device_of_every_suite_registers(relay: LiveRelay, http: httpx.Client, suite: Suite) -> None:
    device = Device.generate(suite)
    answer = http.post("/devices/register", json=registration(device, http, relay.url))
    assert answer.status_code == 201
    registered = answer.json()
    assert (registered["fingerprint"], registered["pictogram"]) == (device.fingerprint, device.pictogram)
    assert set(registered) == {"fingerprint", "pictogram", "pictogram_speakable", "registered_at"}


def test_a_nonce_works_once_and_only_after_its_signature_verified(
    relay: LiveRelay, http: httpx.Client, device: Device
) -> None:
    good = registration(device, http, relay.url)
    stolen = {**good, "device_public_key": Device.generate().wire_key}
    assert code(http.post("/devices/register", json=stolen)) == (401, "INVALID_SIGNATURE")
    assert http.post("/devices/register", json=good).status_code == 201
    assert code(http.post("/devices/register", json=good)) == (401, "INVALID_SIGNATURE")


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"push_token": "another"}, (400, "INVALID_REQUEST")),
        ({"push_platform": "fcm", "push_token": "t"}, (401, "INVALID_SIGNATURE")),
        ({"push_platform": "carrier-pigeon"}, (400, "INVALID_REQUEST")),
        ({"push_platform": "apns"}, (400, "INVALID_REQUEST")),
        ({"push_platform": "apns", "push_token": "x" * 100_000}, (413, "PAYLOAD_TOO_LARGE")),
        ({"push_platform": "apns", "push_token": "x" * 4097}, (400, "INVALID_REQUEST")),
        ({"push_platform": "apns", "push_token": "a\u0000b"}, (400, "INVALID_REQUEST")),
        ({"challenge_id": "00" * 32}, (401, "INVALID_SIGNATURE")),
        ({"challenge_id": "zz"}, (400, "INVALID_REQUEST")),
        ({"device_public_key": "AAAA"}, (400, "INVALID_PUBLIC_KEY")),
        ({"surprise": 1}, (400, "INVALID_REQUEST")),
    ],
)
def test_unsigned_or_malformed_members_are_rejected(
    relay: LiveRelay, http: httpx.Client, device: Device, changed: dict[str, Any], expected: tuple[int, str]
) -> None:
    body = registration(device, http, relay.url, **changed)
    assert code(http.post("/devices/register", json=body)) == expected


def test_a_signature_for_another_relay_is_rejected(http: httpx.Client, device: Device) -> None:
    body = registration(device, http, "https://relay.example.com")
    assert code(http.post("/devices/register", json=body)) == (401, "INVALID_SIGNATURE")


def test_registrations_of_one_address_are_limited(relay: LiveRelay, http: httpx.Client) -> None:
    answers = [http.post("/devices/register", json={}) for _ in range(40)]
    codes = [answer.status_code for answer in answers]
    assert codes[:30] == [400] * 30
    assert 429 in codes[30:]
    assert int(answers[codes.index(429)].headers["retry-after"]) >= 1


def test_an_unregistered_device_gets_no_pushes(relay: LiveRelay, server: Server, http: httpx.Client) -> None:
    from sigil.protocol import signed_bytes
    from sigil.protocol.encoding.text import decode_base64

    device = Device.generate()
    register(device, http, relay.url)
    assert server.push(wanted(device, "before"))[0]["status"] == "queued"
    challenge = http.get("/devices/register/challenge").json()
    message = signed_bytes.relay_unregister(relay.url, decode_base64(challenge["nonce"], ""))
    body = {"device_public_key": device.wire_key, "challenge_id": challenge["challenge_id"]}
    answer = http.post("/devices/unregister", json={**body, "signature": sign(device, message)})
    assert (answer.status_code, answer.json()) == (200, {"fingerprint": device.fingerprint, "removed": True})
    assert server.push(wanted(device, "after"))[0]["status"] == "not_registered"


# Servers


def test_the_first_server_is_trusted_and_a_second_is_not(server: Server, http: httpx.Client) -> None:
    unknown = Server(http)
    assert code(unknown.register()) == (401, "UNAUTHORIZED")
    assert code(unknown.post("/push", {"pushes": []})) == (401, "UNAUTHORIZED")
    assert server.register().status_code == 200


def trust(relay: LiveRelay, server: Server) -> None:
    """Run the operator's command."""
    command = subprocess.run(
        [sys.executable, "-m", "relay", "servers", "trust", server.identity.server_id],
        env=relay.environ,
        check=True,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
    )
    assert command.stdout == "trusted\n"


def test_a_listed_server_loses_its_trust_with_the_list_and_one_trusted_by_an_operator_keeps_it() -> None:
    with LiveRelay(RELAY_TRUST_ON_FIRST_USE="false") as relay, relay.client() as client:
        listed, trusted, both = servers = [Server(client) for _ in range(3)]
        assert code(listed.register()) == (401, "UNAUTHORIZED")
        relay.stop()
        relay.environ["RELAY_TRUSTED_SERVERS"] = f"{listed.identity.server_id},{both.identity.server_id}"
        trust(relay, trusted)
        relay.start()
        assert [server.register().status_code for server in servers] == [200, 200, 200]
        # This server was listed before an operator trusted it.
        trust(relay, both)
        relay.stop()
        del relay.environ["RELAY_TRUSTED_SERVERS"]
        relay.start()
        assert code(listed.post("/push", {"pushes": []})) == (401, "UNAUTHORIZED")
        assert code(listed.register()) == (401, "UNAUTHORIZED")
        for kept in (trusted, both):
            assert kept.post("/push", {"pushes": []}).status_code == 400
            assert kept.register().status_code == 200


def test_a_reload_trusts_the_servers_in_the_file_from_then_on(tmp_path: Path) -> None:
    listed = tmp_path / "servers"
    listed.write_text("")
    token = tmp_path / "metrics-token"
    token.touch(0o600)
    token.write_text("a-token-of-32-characters-or-more-for-metrics")
    settings = {
        "RELAY_TRUST_ON_FIRST_USE": "false",
        "RELAY_TRUSTED_SERVERS_FILE": str(listed),
        "METRICS_TOKEN_FILE": str(token),
    }
    with LiveRelay(**settings) as relay, relay.client() as client:
        identity = Server(client).identity

        def registration_status() -> int:
            with relay.client() as client:
                return Server(client, identity).register().status_code

        def reload(file: str, event: str) -> None:
            before = len(relay.events(event))
            listed.write_text(file)
            os.kill(relay.pid, signal.SIGHUP)
            wait_until(lambda: len(relay.events(event)) > before, event)

        assert registration_status() == 401
        # The token is read at the start only; a reload does not need its file.
        token.unlink()
        reload(identity.server_id, "reload_finished")
        assert registration_status() == 200
        reload("not a server_id", "reload_refused")
        assert registration_status() == 200
        reload("", "reload_finished")
        assert registration_status() == 401


def test_a_request_works_once(server: Server, device: Device) -> None:
    import msgspec

    body = msgspec.json.encode({"pushes": [wanted(device, "once")]})
    headers = server.headers("POST", "/push", body)
    assert server.client.post("/push", content=body, headers=headers).status_code == 200
    assert code(server.client.post("/push", content=body, headers=headers)) == (401, "UNAUTHORIZED")


@pytest.mark.parametrize(
    "changed",
    [
        {"X-Sigil-Server-Id": "00" * 32},
        {"X-Sigil-Server-Id": "short"},
        {"X-Sigil-Timestamp": "soon"},
        {"X-Sigil-Timestamp": str(int(time.time()) + 1)},
        {"X-Sigil-Nonce": "00" * 16},
        {"X-Sigil-Nonce": "AB" * 16},
        {"X-Sigil-Request-Signature": "AAAA"},
        {"X-Sigil-Request-Signature": "not base64"},
    ],
)
def test_a_changed_header_is_rejected(server: Server, changed: dict[str, str]) -> None:
    body = b'{"pushes":[]}'
    headers = server.headers("POST", "/push", body) | changed
    assert code(server.client.post("/push", content=body, headers=headers)) == (401, "UNAUTHORIZED")


@pytest.mark.parametrize("seconds", [-62, 62])
def test_a_request_outside_the_allowed_clock_skew_is_rejected(server: Server, seconds: int) -> None:
    stale = str(int(time.time()) + seconds)
    assert code(server.post("/push", {"pushes": []}, timestamp=stale)) == (401, "UNAUTHORIZED")


def test_another_body_target_or_method_than_was_signed_is_rejected(server: Server) -> None:
    body = b'{"pushes":[]}'
    for method, target, sent in (("POST", "/push", b"{}"), ("POST", "/push/outcomes", body), ("PUT", "/push", body)):
        headers = server.headers(method, target, body)
        assert code(server.client.post("/push", content=sent, headers=headers)) == (401, "UNAUTHORIZED")


def test_the_target_is_signed_as_it_was_sent(server: Server, device: Device) -> None:
    answer = server.post("/push?from=%74est", {"pushes": [wanted(device, "target")]})
    assert answer.status_code == 200


def test_a_server_must_present_its_own_key(server: Server, http: httpx.Client) -> None:
    from sigil.protocol.messages.relay import RegisterServer

    other = Server(http).identity
    body = RegisterServer(server.identity.server_id, other.server_public_keys["ES256"], "x")
    assert code(server.post("/servers/register", body)) == (400, "FINGERPRINT_MISMATCH")
    body = RegisterServer(server.identity.server_id, server.identity.server_public_keys["Ed25519"], "x")
    assert code(server.post("/servers/register", body)) == (400, "INVALID_PUBLIC_KEY")


@pytest.mark.parametrize("name", ["Bank\u202e", "Bank\n", "Bank\u009b2J", "\u3164", " ", "e" + "\u0301" * 9])
def test_a_server_whose_name_would_change_an_operators_terminal_is_rejected(server: Server, name: str) -> None:
    from sigil.protocol.messages.relay import RegisterServer

    body = RegisterServer(server.identity.server_id, server.identity.server_public_keys["ES256"], name)
    answer = server.post("/servers/register", body)
    assert code(answer) == (400, "INVALID_REQUEST")
    assert answer.json()["error"]["details"] == {"path": "$.server_name"}
