"""`sigil doctor push`: one device, through a real server, a real relay and the stand-ins of APNs and FCM."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from sigil.config.settings import load
from sigil.device import Device
from sigil.doctor import push
from sigil.protocol.encoding.canonical import canonical
from sigil.protocol.encoding.fingerprints import parse_beginning
from sigil.protocol.encoding.text import decode_base64
from tests.flows.backend import ACTION, Backend
from tests.relay.devices_of_relay import acknowledge, frame, listening, register
from tests.relay.test_credentials import P256
from tests.support.live import DEADLINE, LiveServer, wait_until
from tests.support.live_relay import LiveRelay
from tests.support.other_user import needs_root
from tests.support.ports import free_port
from tests.support.providers import Providers, apns_token, fcm_token

ROOT = Path(__file__).parents[2]
SETTINGS = {"SIGIL_MAX_PENDING_PER_DEVICE": "2"}


@dataclass
class Report:
    code: int
    text: str
    json: dict[str, Any]

    def found(self, name: str) -> list[dict[str, Any]]:
        return [finding for finding in self.json["findings"] if finding["name"] == name]

    def one(self, name: str) -> dict[str, Any]:
        (finding,) = self.found(name)
        return finding


def run(environ: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "sigil", "doctor", "push", *arguments],
        env=environ,
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
    )


def follow(environ: dict[str, str], fingerprint: str) -> Report:
    """The command twice, for people and as JSON."""
    done = run(environ, fingerprint, "--json")
    assert done.stderr == ""
    plain = run(environ, fingerprint)
    report = Report(done.returncode, plain.stdout, json.loads(done.stdout))
    assert plain.returncode in {0, 1}
    assert "Traceback" not in plain.stdout + plain.stderr
    return report


@dataclass
class Stack:
    providers: Providers
    relay: LiveRelay
    server: LiveServer
    backend: Backend

    def device(self, platform: str = "apns", prefix: str = "") -> Device:
        device = Device.generate()
        token = {"apns": apns_token, "fcm": fcm_token, "websocket": lambda prefix: ""}[platform](prefix)
        with self.relay.client() as client:
            register(device, client, self.relay.url, platform, token)
        return device

    def challenge(self, device: Device, *statuses: str, **members: Any) -> dict[str, Any]:
        """A challenge, when its push has one of these statuses."""
        created = self.backend.create_challenge(device, **members)
        if statuses:
            wait_until(lambda: self.backend.status(created)["push"]["status"] in statuses, f"a push {statuses}")
        return created

    def follow(self, device: Device | str) -> Report:
        report = follow(self.server.environ, device if isinstance(device, str) else device.fingerprint)
        for secret in (self.server.mnemonic, self.server.api_key, "PRIVATE KEY"):
            assert secret not in report.text + json.dumps(report.json)
        return report


@pytest.fixture(scope="module")
def running() -> Iterator[Stack]:
    with ExitStack() as stack:
        providers = stack.enter_context(Providers())
        relay = stack.enter_context(LiveRelay(**providers.env))
        server = stack.enter_context(LiveServer(workers=2, RELAY_URL=relay.url, **SETTINGS))
        yield Stack(providers, relay, server, stack.enter_context(Backend(server)))


@pytest.fixture
def stack(running: Stack) -> Stack:
    running.providers.reset()
    return running


def test_a_delivered_push_and_what_is_pending(stack: Stack) -> None:
    device = stack.device()
    created = stack.challenge(device, "delivered")
    report = stack.follow(device)
    assert report.code == 0
    registration = report.one("registration")
    assert registration["state"] == "ok"
    assert "registered for APNs since 20" in registration["text"]
    assert "its token is alive" in registration["text"]
    push = report.one("push")
    assert f"challenge {created['challenge_id']}: accepted by APNs at 20" in push["text"]
    pending = report.one("pending")
    assert created["challenge_id"] in pending["text"]
    assert "its push was delivered" in pending["text"]
    assert report.one("limits")["state"] == "ok"
    assert report.json["fingerprint"] == device.fingerprint
    assert report.json["relay"]["pushes"][0]["status"] == "delivered"
    assert report.json["server"]["pending"][0]["id"] == created["challenge_id"]
    assert report.text.startswith(f"Device {device.fingerprint}  ")
    # As people paste it, and as the log has it.
    for text in (
        device.fingerprint.upper(),
        device.fingerprint[:6] + "…",
        " ".join(device.fingerprint[start : start + 4] for start in range(0, 64, 4)),
        ":".join(device.fingerprint[start : start + 2] for start in range(0, 64, 2)).upper(),
        device.fingerprint[:13] + "...",
        f"  {device.fingerprint}\n",
        device.wire_key,
    ):
        assert follow(stack.server.environ, text).json["fingerprint"] == device.fingerprint


def test_a_device_that_never_registered(stack: Stack) -> None:
    device = Device.generate()
    stack.challenge(device, "failed")
    report = stack.follow(device)
    assert report.code == 1
    registration = report.one("registration")
    assert registration["state"] == "failed"
    assert f"not registered at the relay {stack.relay.url}" in registration["text"]
    assert "open the app" in registration["next_step"]
    pending = report.one("pending")
    assert (pending["state"], "its push failed (not_registered)" in pending["text"]) == ("failed", True)
    # With a beginning: this server's store knows the device, of which the relay knows nothing.
    assert stack.follow(device.fingerprint[:7]).one("registration")["text"] == registration["text"]


def test_a_device_that_never_registered_and_has_nothing_pending(stack: Stack) -> None:
    """The log has six characters, which no command completes by then; the backend has the public key."""
    device = Device.generate("Ed25519")
    stack.backend.cancel(stack.challenge(device, "failed"))
    unknown = stack.follow(device.fingerprint[:6]).one("registration")
    assert "give its public key, as your backend has it" in unknown["next_step"]
    assert "not registered at the relay" in stack.follow(device.wire_key).one("registration")["text"]


@pytest.mark.parametrize(
    ("platform", "outcome", "words", "step"),
    [
        ("apns", "BadDeviceToken", "APNs reported BadDeviceToken", "APNS_ENVIRONMENT"),
        ("apns", "Unregistered", "the app was removed", "install the app"),
        ("fcm", "UNREGISTERED", "the app was removed", "open the app"),
    ],
)
def test_a_dead_token(stack: Stack, platform: str, outcome: str, words: str, step: str) -> None:
    stack.providers.script(platform, token="dead", outcome=outcome)
    device = stack.device(platform, "dead")
    stack.challenge(device, "failed")
    report = stack.follow(device)
    assert report.code == 1
    for name in ("registration", "push"):
        finding = report.one(name)
        assert finding["state"] == "failed"
        assert words in finding["text"]
        assert step in finding["next_step"]
    assert "is dead since 20" in report.one("registration")["text"]
    with stack.relay.client() as client:
        register(device, client, stack.relay.url, platform, {"apns": apns_token, "fcm": fcm_token}[platform]())
    stack.challenge(device, "delivered")
    report = stack.follow(device)
    assert report.code == 1  # The first challenge is still pending, and has no push.
    assert report.one("registration")["state"] == "ok"
    # Of a past failure the newest push is not.
    assert [finding["state"] for finding in report.found("push")] == ["ok", "open"]


def test_a_provider_that_is_down(stack: Stack) -> None:
    stack.providers.kill("fcm")
    try:
        device = stack.device("fcm")
        stack.challenge(device)
        wait_until(lambda: "does not reach" in stack.follow(device).found("push")[0]["text"], "the first attempt")
        push = stack.follow(device).one("push")
        assert push["state"] == "open"
        assert "waits for FCM: the relay does not reach the provider, next attempt 20" in push["text"]
        assert "sigil-relay doctor" in push["next_step"]
    finally:
        stack.providers.start("fcm")
    wait_until(lambda: "accepted by FCM" in stack.follow(device).one("push")["text"], "the next attempt")
    assert " attempts" in stack.follow(device).one("push")["text"]


def test_a_push_that_expires_in_the_queue_while_the_provider_rejects_the_credentials(
    stack: Stack, tmp_path: Path
) -> None:
    key = tmp_path / "key.p8"
    key.touch(0o600)
    key.write_text(P256)
    with ExitStack() as running:
        relay = running.enter_context(LiveRelay(**{**stack.providers.env, "APNS_KEY_PATH": str(key)}))
        server = running.enter_context(LiveServer(workers=1, RELAY_URL=relay.url))
        backend = running.enter_context(Backend(server))
        device = Device.generate()
        with relay.client() as client:
            register(device, client, relay.url, "apns", apns_token())
        created = backend.create_challenge(device, expires_in_seconds=30)

        def text() -> str:
            done = run(server.environ, device.fingerprint[:8], "--json")
            found = [one["text"] for one in json.loads(done.stdout)["findings"] if one["name"] == "push"]
            return str(found[-1]) if found else ""

        wait_until(lambda: "waits for APNs: the provider rejects the relay's credentials" in text(), "the rejection")
        push = follow(server.environ, device.fingerprint).one("push")
        assert "sigil-relay doctor" in push["next_step"]
        wait_until(lambda: f"{created['challenge_id']}: not delivered" in text(), "the end of the push")


def test_a_provider_that_limits_the_device(stack: Stack) -> None:
    stack.providers.script("apns", token="11", outcome="TooManyRequests", retry_after="60")
    device = stack.device("apns", "11")
    stack.challenge(device)
    wait_until(lambda: "APNs limits" in (stack.follow(device).found("push") or [{"text": ""}])[0]["text"], "the limit")
    assert stack.follow(device).one("push")["state"] == "open"


async def test_a_device_on_websocket_offline_online_and_after_its_acknowledgement(stack: Stack) -> None:
    device = await asyncio.to_thread(stack.device, "websocket")
    await asyncio.to_thread(stack.challenge, device, "queued")

    def push() -> dict[str, Any]:
        return stack.follow(device).one("push")

    await asyncio.to_thread(wait_until, lambda: stack.follow(device).found("push"), "the push at the relay")
    offline = await asyncio.to_thread(push)
    assert "waits for the device to connect" in offline["text"]
    assert "open the app" in offline["next_step"]
    async with listening(stack.relay, device) as socket:
        received = await frame(socket)
        assert "sent, and not acknowledged yet" in (await asyncio.to_thread(push))["text"]
        await acknowledge(socket, received)
        await asyncio.to_thread(wait_until, lambda: "acknowledged by the device" in push()["text"], "it is delivered")
    assert (await asyncio.to_thread(push))["state"] == "ok"


def test_a_mute_and_the_limit_of_pending_challenges(stack: Stack) -> None:
    device = stack.device()
    for _ in range(2):
        stack.challenge(device)
    at_limit = stack.follow(device)
    assert "2 of 2 challenges of API key" in at_limit.one("limits")["text"]
    muted = stack.device()
    created = stack.challenge(muted)
    bound = decode_base64(created["challenge_bytes"], "")
    signature = muted.sign_rejection(bound, canonical(ACTION))
    body = muted.response_body(created["challenge_id"], "rejected", signature, reason="unknown_trigger")
    with stack.server.client() as client:
        assert client.post("/respond", json=body).status_code == 200
    limits = stack.follow(muted).one("limits")
    assert limits["state"] == "failed"
    assert "muted for" in limits["text"]
    assert "did not ask" in limits["text"]


def test_without_a_relay_that_answers_the_rest_is_still_there(stack: Stack) -> None:
    device = stack.device()
    created = stack.challenge(device, "delivered")
    environ = {**stack.server.environ, "RELAY_URL": f"http://127.0.0.1:{free_port()}"}
    report = follow(environ, device.fingerprint)
    assert report.code == 1
    assert "gave no usable answer: no connection" in report.one("registration")["text"]
    assert "sigil doctor" in report.one("registration")["next_step"]
    assert created["challenge_id"] in report.one("pending")["text"]
    report = follow({**stack.server.environ, "RELAY_URL": ""}, device.fingerprint)
    assert "RELAY_URL is empty" in report.one("registration")["text"]


def test_a_relay_that_does_not_trust_this_server_is_not_registered_with(stack: Stack, tmp_path: Path) -> None:
    device = Device.generate()
    with LiveRelay() as fresh:
        report = follow({**stack.server.environ, "RELAY_URL": fresh.url}, device.fingerprint)
        assert "does not accept this server's signature" in report.one("registration")["text"]
        # It trusts the first server that registers: a command must not be it.
        listed = subprocess.run(
            [sys.executable, "-m", "relay", "servers", "list"],
            env=fresh.environ, check=True, capture_output=True, text=True, timeout=DEADLINE,
        )  # fmt: skip
        assert listed.stdout == ""


def test_a_server_that_is_stopped_leaves_the_relays_account(stack: Stack) -> None:
    device = stack.device()
    stack.challenge(device, "delivered")
    report = follow(
        {**stack.server.environ, "SIGIL_STATE_DIR": str(stack.server.directory / "none")}, device.fingerprint
    )
    assert "no server runs on SIGIL_STATE_DIR" in report.one("pending")["text"]
    assert report.one("push")["state"] == "ok"
    assert report.json["server"] is None


@needs_root
def test_a_state_directory_on_a_read_only_mount_leaves_the_relays_account(stack: Stack) -> None:
    device = stack.device()
    stack.challenge(device, "delivered")
    state = stack.server.environ["SIGIL_STATE_DIR"]
    mount = 'mount --bind "$0" "$0"; mount -o remount,bind,ro "$0"; exec "$@"'
    done = subprocess.run(
        ["unshare", "--mount", "--propagation", "private", "sh", "-euc", mount, state,
         sys.executable, "-m", "sigil", "doctor", "push", device.fingerprint],
        env=stack.server.environ, capture_output=True, text=True, check=False, timeout=DEADLINE,
    )  # fmt: skip
    assert f"the store cannot be read: {state}" in done.stdout, done
    assert "read-only" in done.stdout
    assert done.returncode == 0


class _Relay(BaseHTTPRequestHandler):
    """A relay whose answer a test sets."""

    answer: tuple[int, bytes] = (200, b"{}")

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        status, body = self.answer
        with contextlib.suppress(OSError):
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def scripted() -> Iterator[str]:
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), _Relay)
    thread = Thread(target=httpd.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{httpd.server_port}"
    httpd.shutdown()
    thread.join()
    httpd.server_close()


def _error(code: str) -> bytes:
    return json.dumps({"error": {"code": code, "message": "x"}}).encode()


FINGERPRINT = "ab" * 32


PUSH = {
    "push_key": "8a2d6a5e-0000-4000-8000-000000000000:challenge",
    "push_id": "00" * 16,
    "provider": "apns",
    "status": "failed",
    "attempts": 1,
    "created_at": "2026-01-01T00:00:00Z",
    "error": "BadTopic",
}


def _history(**changed: Any) -> bytes:
    whole = {"fingerprint": FINGERPRINT, "registration": {"status": "registered", "provider": "apns"}, "pushes": [PUSH]}
    return json.dumps({**whole, **changed}).encode()


HOSTILE = "\x1b]0;owned\x07\x1b[2J\u202e\u0000" + "x" * 5000


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ((404, _error("NOT_FOUND")), "the relay is older than this command"),
        ((404, _error("DEVICE_UNKNOWN")), "remembers no push of this server"),
        ((404, b"<html>"), "gave no usable answer: 404"),
        ((409, _error("FINGERPRINT_AMBIGUOUS")), "several devices of this server"),
        ((401, _error("UNAUTHORIZED")), "does not accept this server's signature"),
        ((429, _error("RATE_LIMITED")), "gave no usable answer: 429"),
        ((503, b""), "gave no usable answer: 503"),
        ((302, b""), "gave no usable answer: 302"),
        ((200, b"\xff\x00"), "an answer of another form"),
        ((200, b"[" * 100_000), "an answer of another form"),
        ((200, b"x" * 1_000_000), "an answer that does not end"),
        ((200, _history(fingerprint="cd" * 32)), "an answer of another form"),
        ((200, _history(fingerprint=HOSTILE)), "an answer of another form"),
        ((200, _history(registration={"status": "token_evicted", "provider": HOSTILE, "error": HOSTILE})), "is dead"),
        ((200, _history(pushes=[PUSH | dict.fromkeys(("error", "push_key", "created_at"), HOSTILE)])), "regist"),
        ((200, _history(pushes=[PUSH] * 500)), "registered for APNs"),
    ],
)  # fmt: skip
def test_any_answer_of_a_relay_is_a_finding(
    stack: Stack, scripted: str, answer: tuple[int, bytes], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_Relay, "answer", answer)
    examined = push.follow(load({**stack.server.environ, "RELAY_URL": scripted}), FINGERPRINT)
    report = Report(examined.exit_code, examined.as_text(), json.loads(examined.as_json()))
    assert words in report.one("registration")["text"]
    shown = report.text + json.dumps(report.json, ensure_ascii=False)
    assert not {"\x1b", "\x07", "\u202e", "\x00"} & set(shown)
    assert len(shown) < 20_000
    assert len(report.found("push")) <= 10
    assert report.code == (0 if "older" in words else 1)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("abc", "at least the first 6 characters"),
        ("", "hex characters only"),
        ("not a fingerprint", "hex characters only"),
        ("ab" * 33, "has 64 hex characters, and this has 66"),
        ("abcdeg", "hex characters only"),
        ("\u0661\u0662\u0663\u0664\u0665\u0666", "hex characters only"),
    ],
)
def test_what_is_no_fingerprint_is_a_usage_error(stack: Stack, text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse_beginning(text)
    done = run(stack.server.environ, "--", text)
    assert done.returncode == 2
    assert words in done.stderr
    assert done.stdout == ""
