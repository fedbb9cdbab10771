"""`sigil device register`, `unregister` and `listen`, against a fake server and a fake relay."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sigil.device.commands.relay_choice import RelayAddress, address_of
from sigil.device.http.tls import TlsTrust
from sigil.device.keyring import Keyring
from sigil.device.relay import RelayClient
from sigil.device.server_pin import ServerPin
from sigil.protocol.encoding.text import decode_base64
from sigil.protocol.keys import PublicKey
from tests.device.clock import MovingClock, Run
from tests.device.fake_relay import Peer, Registry, Script, push_id, relay_in_a_thread
from tests.device.fake_server import ACTION, NOW, FakeServer, identity, make_payload, problem

ORIGIN = "https://auth.example.com"
REPLACED = (
    "A newer connection of this device replaced this one at the relay: 'sigil device listen' runs elsewhere with "
    "the same key. Use that one, or end it and start again."
)
ESCAPES = "\x1b\x9b\x07\x08\r\x7f\u202e\u200b"


class RelayServer(FakeServer):
    """Also serves a relay's HTTP at the same address."""

    def __init__(self, clock: MovingClock) -> None:
        super().__init__(clock)
        self.registry = Registry(self.url)

    def handle(self, method: str, path: str, body: bytes) -> tuple[int, bytes]:
        if path.startswith("/devices/"):
            return self.registry.handle(method, path, body)
        return super().handle(method, path, body)


@pytest.fixture
def server(clock: MovingClock) -> Iterator[RelayServer]:
    with RelayServer(clock) as running:
        running.info_changes = {"relay_url": running.url}
        yield running


@pytest.fixture
def enrolled(run: Run, server: RelayServer) -> dict[str, Any]:
    assert run("init", "--server", server.url, "--pin", server.identity.server_id).exit_code == 0
    printed: dict[str, Any] = json.loads(run("whoami", "--json").stdout)
    return printed


def key_of(enrolled: dict[str, Any]) -> PublicKey:
    return PublicKey.parse(decode_base64(enrolled["device_public_key"], "$"))


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_register_uses_the_relay_of_the_server(run: Run, server: RelayServer, enrolled: dict[str, Any]) -> None:
    done = run("register")
    assert done.exit_code == 0, done.output
    assert f"Registered   {server.url}  (websocket)" in done.stdout
    assert enrolled["fingerprint"] in done.stdout
    assert enrolled["pictogram_speakable"] in done.stdout
    (given,) = server.registry.registered
    assert (given["device_public_key"], given["push_platform"]) == (enrolled["device_public_key"], "websocket")


def test_register_as_json(run: Run, server: RelayServer, enrolled: dict[str, Any]) -> None:
    printed = json.loads(run("register", "--json").stdout)
    assert printed == {
        "relay": server.url,
        "server": server.url,
        "fingerprint": enrolled["fingerprint"],
        "pictogram": enrolled["pictogram"],
        "pictogram_speakable": enrolled["pictogram_speakable"],
        "platform": "websocket",
        "registered_at": "2027-01-15T08:00:00Z",
    }
    assert json.loads(run("unregister", "--json").stdout)["removed"] is True


def test_unregister_reports_the_earlier_registration(run: Run, server: RelayServer, enrolled: dict[str, Any]) -> None:
    assert "Was not registered" in run("unregister").stdout
    run("register")
    done = run("unregister")
    assert (done.exit_code, done.stdout.splitlines()[0]) == (0, f"Unregistered  {server.url}")


def test_unregister_uses_the_recorded_relay_and_register_the_current_one(
    run: Run, server: RelayServer, clock: MovingClock, enrolled: dict[str, Any]
) -> None:
    with RelayServer(clock) as moved:
        run("register")
        server.info_changes = {"relay_url": moved.url}
        run("unregister")
        assert (len(server.registry.registered), len(moved.registry.registered)) == (2, 0)
        run("register")
        run("register", "--relay", server.url)
        assert (len(server.registry.registered), len(moved.registry.registered)) == (3, 1)


@pytest.mark.parametrize("platform", ["apns", "fcm"])
def test_a_token_comes_from_a_file_or_from_standard_input(
    run: Run, server: RelayServer, enrolled: dict[str, Any], tmp_path: Path, platform: str
) -> None:
    file = tmp_path / "token"
    file.write_text("a-token\n")
    assert run("register", "--platform", platform, "--token-file", str(file)).exit_code == 0
    assert run("register", "--platform", platform, input="another\n").exit_code == 0
    assert [(given["push_platform"], given["push_token"]) for given in server.registry.registered] == [
        (platform, "a-token"),
        (platform, "another"),
    ]


@pytest.mark.parametrize("token", ["", "\n", "two\nlines", "x" * 4097, "a\x1bb"])
def test_a_malformed_token_is_rejected(run: Run, server: RelayServer, enrolled: dict[str, Any], token: str) -> None:
    assert run("register", "--platform", "fcm", input=token).exit_code == 2
    assert server.registry.registered == []


@pytest.mark.parametrize(
    "arguments",
    [
        ("register", "--platform", "sms"),
        ("register", "--token-file", __file__),
        ("register", "--token", "secret"),
        ("register", "--insecure"),
        ("register", "--relay", "http://127.0.0.1:1", "--tls-pin", "ab" * 32),
        ("register", "--relay", "https://r.example", "--tls-pin", "ab" * 32, "--ca", __file__),
        ("listen",),
        ("listen", "--auto-approve", "--auto-reject"),
        ("listen", "--json", "--once"),
    ],
)
def test_wrong_usage_ends_with_2(run: Run, enrolled: dict[str, Any], arguments: tuple[str, ...]) -> None:
    assert run(*arguments).exit_code == 2


def test_a_server_without_a_relay_is_an_error(run: Run, server: RelayServer, enrolled: dict[str, Any]) -> None:
    server.info_changes = {}
    for command in (("register",), ("unregister",), ("listen", "--json")):
        refused = run(*command)
        assert (refused.exit_code, refused.stderr.startswith("sigil: RELAY_UNKNOWN")) == (1, True)


def test_a_relay_that_another_server_names_is_not_used(run: Run, server: RelayServer, enrolled: dict[str, Any]) -> None:
    server.identity = identity(50)
    refused = run("register")
    assert (refused.exit_code, "PIN_MISMATCH" in refused.stderr) == (1, True)
    assert server.registry.registered == []


def test_a_public_relay_over_plain_http_is_refused(run: Run, server: RelayServer, enrolled: dict[str, Any]) -> None:
    server.info_changes = {"relay_url": f"http://relay.example.com/{ESCAPES}"}
    refused = run("register")
    assert (refused.exit_code, refused.stderr.startswith("sigil: ADDRESS_REFUSED")) == (1, True)
    assert not set(ESCAPES) & set(refused.stderr)
    server.info_changes = {"relay_url": "http://relay.example.com"}
    assert "--insecure-relay" in run("register").stderr


def test_an_error_of_the_relay_is_one_line(run: Run, server: RelayServer, enrolled: dict[str, Any]) -> None:
    server.registry.failures = [problem(429, "RATE_LIMITED", f"Slow{ESCAPES}\ndown.")]
    refused = run("register")
    assert (refused.exit_code, refused.stderr.count("\n")) == (1, 1)
    assert "RATE_LIMITED" in refused.stderr
    assert not set(ESCAPES) & set(refused.output)


def test_trust_is_kept_for_its_relay(
    run: Run, server: RelayServer, enrolled: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    used: list[RelayAddress] = []

    def client(address: RelayAddress) -> Any:
        used.append(address)
        registry = Registry(address.origin)
        return RelayClient(address.origin, any_http=address.any_http, transport=registry.transport())

    monkeypatch.setattr(RelayAddress, "client", client)
    pinned = ("--relay", "https://relay.example.com", "--tls-pin", "AB" * 32)
    assert run("register", *pinned).exit_code == 0
    assert run("register", "--relay", "https://relay.example.com:443/").exit_code == 0
    assert run("unregister").exit_code == 0
    assert run("register", "--relay", "https://other.example.com").exit_code == 0
    assert run("register", "--relay", "http://relay.example.com", "--insecure-relay").exit_code == 0
    assert run("unregister").exit_code == 0
    assert [(address.origin, address.tls.sha256, address.any_http) for address in used] == [
        ("https://relay.example.com", "ab" * 32, False),
        ("https://relay.example.com", "ab" * 32, False),
        ("https://relay.example.com", "ab" * 32, False),
        ("https://other.example.com", None, False),
        ("http://relay.example.com", None, True),
        ("http://relay.example.com", None, True),
    ]


@pytest.mark.parametrize(("relay", "pin"), [(ORIGIN, "cd" * 32), ("https://other.example.com", None)])
def test_trust_in_the_server_applies_to_its_own_address_alone(tmp_path: Path, relay: str, pin: str | None) -> None:
    own = identity()
    server = ServerPin(
        base_url=ORIGIN,
        server_id=own.server_id,
        server_public_keys=own.server_public_keys,
        tls=TlsTrust(sha256="cd" * 32),
    )
    keyring = Keyring(tmp_path / "keys")
    registration = keyring.create(server, "ES256")
    found = address_of(keyring, registration, relay=relay, ca=None, tls_pin=None, insecure_relay=False)
    assert (found.origin, found.tls.sha256) == (relay, pin)


def test_a_new_key_has_no_registration(run: Run, server: RelayServer, home: Path, enrolled: dict[str, Any]) -> None:
    run("register", "--relay", server.url)
    server.info_changes = {}
    assert run("init", "--server", server.url, "--yes", "--force").exit_code == 0
    assert "RELAY_UNKNOWN" in run("unregister").stderr


def test_forget_names_the_relay_that_still_has_the_registration(
    run: Run, server: RelayServer, home: Path, enrolled: dict[str, Any]
) -> None:
    run("register")
    result = run("forget", server.url)
    assert f"{server.url} still has its registration" in result.stdout
    assert list(home.iterdir()) == []


def test_a_damaged_record_is_one_line_and_its_key_can_be_forgotten(
    run: Run, server: RelayServer, home: Path, enrolled: dict[str, Any]
) -> None:
    run("register")
    next(home.glob("*.relay")).write_text("{}")
    refused = run("listen", "--json")
    assert (refused.exit_code, "KEY_FILE_UNUSABLE" in refused.stderr) == (1, True)
    assert run("forget", server.url).exit_code == 0


def challenge(server: FakeServer, enrolled: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return make_payload(server.identity, key_of(enrolled), **changes)


def pushing(*payloads: dict[str, Any]) -> Script:
    async def script(peer: Peer) -> None:
        await peer.welcome()
        for number, item in enumerate(payloads, start=1):
            await peer.push(item, number)
            await peer.acknowledged(number)
        await peer.gone()

    return script


def test_listen_shows_and_approves_a_push(run: Run, server: RelayServer, enrolled: dict[str, Any]) -> None:
    bad = challenge(server, enrolled, number=2, respond_to="https://evil.example")
    pushed = challenge(server, enrolled)
    server.listed.append(pushed)
    with relay_in_a_thread(pushing(bad, pushed)) as relay:
        done = run("listen", "--relay", relay.origin, "--auto-approve", "--once")
    assert done.exit_code == 0, done.output
    assert "Approved: the challenge is verified." in done.stdout
    assert "Pay the invoice" in done.stdout
    assert f"Listening at {relay.origin}" in done.stderr
    assert f"REFUSED {bad['challenge_id']} RESPOND_TO_FOREIGN" in done.stderr
    assert [answer["decision"] for answer in server.answers] == ["approved"]


def test_listen_does_not_prompt_for_a_push_whose_challenge_was_answered_before(
    run: Run, server: RelayServer, enrolled: dict[str, Any]
) -> None:
    """By `approve`, while the push waited at the relay."""
    answered = server.add_challenge(enrolled["device_public_key"])
    assert run("approve", answered["challenge_id"]).exit_code == 0

    async def replaced(peer: Peer) -> None:
        await pushing_then(peer, answered)
        await peer.close(4000)

    with relay_in_a_thread(replaced) as relay:
        done = run("listen", "--relay", relay.origin, "--json")
    assert [line["event"] for line in lines(done.stdout)] == ["connected", "gone", "ended"]


def test_listen_fetches_pending_challenges(run: Run, server: RelayServer, enrolled: dict[str, Any]) -> None:
    server.add_challenge(enrolled["device_public_key"])
    with relay_in_a_thread() as relay:
        done = run("listen", "--relay", relay.origin, "--auto-reject", "--once")
    assert (done.exit_code, "Rejected." in done.stdout) == (0, True)


def test_listen_as_json_prints_every_event(
    run: Run, server: RelayServer, enrolled: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    # As of pushes long after the connect.
    monkeypatch.setattr("sigil.device.relay.listener.WAITED_SECONDS", 0)
    first, clear = challenge(server, enrolled), {"type": "clear", "challenge_id": "x", "status": f"{ESCAPES}"}
    bad = challenge(server, enrolled, number=3, fingerprint="ab" * 32)

    async def replaced(peer: Peer) -> None:
        await pushing_then(peer, first, first, bad, clear, {"type": "later"})
        await peer.close(4000)

    with relay_in_a_thread(replaced) as relay:
        done = run("listen", "--relay", relay.origin, "--json")
    assert (done.exit_code, done.stderr) == (1, f"sigil: REPLACED: {REPLACED}\n")
    assert not set(ESCAPES) & set(done.output)
    assert lines(done.stdout) == [
        {"event": "connected", "relay": relay.origin},
        {
            "event": "challenge",
            "challenge_id": first["challenge_id"],
            "server": server.url,
            "server_id": server.identity.server_id,
            "action": ACTION,
            "expires_at": int(NOW) + 300,
            "seconds_left": 299,
            "number_matching": False,
            "push_id": push_id(1),
        },
        {"event": "repeated", "challenge_id": first["challenge_id"], "push_id": push_id(2)},
        {
            "event": "refused",
            "challenge_id": bad["challenge_id"],
            "code": "NOT_THIS_DEVICE",
            "message": "The challenge is for another device.",
            "push_id": push_id(3),
        },
        {"event": "clear", "challenge_id": "x", "status": ESCAPES, "push_id": push_id(4)},
        {"event": "ignored", "type": "later", "push_id": push_id(5)},
        {"event": "ended", "code": "REPLACED", "message": REPLACED},
    ]


async def pushing_then(peer: Peer, *payloads: dict[str, Any]) -> None:
    await peer.welcome()
    for number, item in enumerate(payloads, start=1):
        await peer.push(item, number)
        await peer.acknowledged(number)


def test_listen_names_the_command_when_the_device_was_never_registered(
    run: Run, server: RelayServer, enrolled: dict[str, Any]
) -> None:
    with relay_in_a_thread(rejected) as relay:
        refused = run("listen", "--relay", relay.origin, "--auto-approve")
    assert (refused.exit_code, refused.stderr.count("\n")) == (1, 1)
    assert "run 'sigil device register' first" in refused.stderr


async def rejected(peer: Peer) -> None:
    await peer.reject_auth("not_registered")


@pytest.mark.parametrize("platform", ["websocket", "fcm"])
def test_listen_repeats_only_a_websocket_registration(
    run: Run, server: RelayServer, enrolled: dict[str, Any], monkeypatch: pytest.MonkeyPatch, platform: str
) -> None:
    run("register", "--platform", platform, input="a-token")
    with relay_in_a_thread(rejected, rejected) as relay:
        client = lambda address: RelayClient(address.origin, socket_url=relay.origin)  # noqa: E731
        monkeypatch.setattr(RelayAddress, "client", client)
        refused = run("listen", "--auto-approve")
    assert (refused.exit_code, "NOT_REGISTERED_AT_RELAY" in refused.stderr) == (1, True)
    assert [given["push_platform"] for given in server.registry.registered] == (
        ["websocket", "websocket"] if platform == "websocket" else ["fcm"]
    )


def test_a_challenge_whose_answer_could_not_be_sent_is_reported_again(
    run: Run, server: RelayServer, enrolled: dict[str, Any]
) -> None:
    # Expired by the device's clock, which may be fast: the device does not send the answer again, but fetches again.
    server.add_challenge(enrolled["device_public_key"], expires_at=int(NOW) - 10)
    handle, failures = server.handle, [problem(503, "OVERLOADED")]

    def overloaded_once(method: str, path: str, body: bytes) -> tuple[int, bytes]:
        return failures.pop() if failures and path == "/respond" else handle(method, path, body)

    server.handle = overloaded_once  # type: ignore[method-assign]
    with relay_in_a_thread() as relay:
        done = run("listen", "--relay", relay.origin, "--auto-approve", "--once")
    assert (done.exit_code, done.stdout.count("Description"), len(server.answers)) == (0, 2, 1)
    assert "Not answered" in done.stderr


def test_ctrl_c_ends_listen_with_exit_code_0(run: Run, server: RelayServer, enrolled: dict[str, Any]) -> None:
    async def interrupting(peer: Peer) -> None:
        await peer.welcome()
        await peer.push(challenge(server, enrolled))
        await peer.acknowledged()
        os.kill(os.getpid(), signal.SIGINT)
        assert await peer.gone() == 1000

    with relay_in_a_thread(interrupting) as relay:
        done = run("listen", "--relay", relay.origin, "--json")
    assert (done.exit_code, done.stderr) == (0, "")


def test_without_websockets_listen_names_the_extra(
    run: Run, server: RelayServer, enrolled: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("websockets", "websockets.asyncio.client"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, "sigil.device.relay.socket", raising=False)
    run("register")
    refused = run("listen", "--auto-approve")
    assert (refused.exit_code, refused.stderr.count("\n")) == (1, 1)
    assert "pip install '.[cli]' in a checkout" in refused.stderr
    assert run("pending").exit_code == 0
