"""The challenge path from end to end: a real server, two workers, TLS, real keys."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from contextlib import AsyncExitStack
from typing import Any

import httpx
import pytest

from sigil.device import Device
from sigil.protocol.keys import SUITES, Suite
from tests.flows.backend import Backend, ExpiringChallenge, approval, rejection, status_path
from tests.support.live import LiveServer, wait_until


@pytest.mark.parametrize("suite", SUITES)
def test_a_device_of_every_suite_approves(backend: Backend, suite: Suite) -> None:
    device = Device.generate(suite)
    created = backend.create_challenge(device)
    answer = backend.http.post("/respond", json=approval(device, created))
    assert (answer.status_code, answer.json()["status"], answer.json()["verified"]) == (200, "verified", True)
    assert backend.status(created)["status"] == "verified"


@pytest.mark.parametrize("suite", SUITES)
def test_a_device_of_every_suite_rejects(backend: Backend, suite: Suite) -> None:
    device = Device.generate(suite)
    created = backend.create_challenge(device)
    answer = backend.http.post("/respond", json=rejection(device, created))
    assert (answer.status_code, answer.json()["status"], answer.json()["verified"]) == (200, "rejected", False)
    status = backend.status(created)
    assert (status["status"], status["decision"], status["reason"]) == ("rejected", "rejected", "cancelled")


@pytest.mark.parametrize("suite", SUITES)
def test_a_cancelled_challenge_cannot_be_answered(backend: Backend, suite: Suite) -> None:
    device = Device.generate(suite)
    created = backend.create_challenge(device)
    assert backend.cancel(created).json()["status"] == "cancelled"
    answer = backend.http.post("/respond", json=approval(device, created))
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "CHALLENGE_ALREADY_USED")
    assert answer.json()["error"]["details"] == {"status": "cancelled"}


async def test_exactly_one_of_fifty_concurrent_responses_counts(server: LiveServer, backend: Backend) -> None:
    device = Device.generate()
    created = backend.create_challenge(device)
    body = approval(device, created)
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(server.async_client()) for _ in range(50)]
        for client in clients:
            await client.get("/health")
        answers = await asyncio.gather(*(client.post("/respond", json=body) for client in clients))
    codes = [answer.json()["error"]["code"] for answer in answers if answer.status_code != 200]
    assert codes == ["CHALLENGE_ALREADY_USED"] * 49


class Connections:
    """HTTP/2 clients of one connection each, sorted by the worker that accepted them."""

    def __init__(self, server: LiveServer) -> None:
        self._server = server
        self._open: list[httpx.AsyncClient] = []

    async def __aenter__(self) -> Connections:
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.gather(*(client.aclose() for client in self._open))

    async def open_to(self, worker: int, count: int) -> list[httpx.AsyncClient]:
        found: list[httpx.AsyncClient] = []
        while len(found) < count:
            client = self._server.async_client(http2=True)
            self._open.append(client)
            stream = (await client.get("/health")).extensions["network_stream"]
            if self._server.worker_of(stream.get_extra_info("client_addr")[1]) == worker:
                found.append(client)
        return found


async def test_responses_at_one_worker_end_five_hundred_long_polls_at_the_other(
    server: LiveServer, backend: Backend
) -> None:
    one, other = server.workers()
    challenges = [(device, backend.create_challenge(device)) for device in (Device.generate() for _ in range(50))]
    async with Connections(server) as connections:
        polling = await connections.open_to(one, 10)
        (answering,) = await connections.open_to(other, 1)
        polls = [
            asyncio.create_task(seconds_until_verified(client, created))
            for client in polling
            for _, created in challenges
        ]
        await polling[0].get("/health")
        for device, created in challenges:
            assert (await answering.post("/respond", json=approval(device, created))).status_code == 200
        durations = await asyncio.gather(*polls)
    assert len(durations) == 500
    # At least one poll ended before its 25 s: a slow machine delays some polls, a missing wake-up delays all.
    assert min(durations) < 25


async def seconds_until_verified(client: httpx.AsyncClient, created: dict[str, Any]) -> float:
    """Seconds of the poll that returned the approval. On a slow machine an earlier poll may end without it."""
    while True:
        began = time.monotonic()
        status = (await client.get(status_path(created), params={"wait": 25})).json()["status"]
        if status == "verified":
            return time.monotonic() - began
        assert status == "pending"


def test_a_killed_worker_loses_no_pending_challenge() -> None:
    with LiveServer(workers=2, SIGIL_DEVICE_RATE="off") as server, Backend(server) as backend:
        challenges = [(device, backend.create_challenge(device)) for device in (Device.generate() for _ in range(40))]
        victim = server.workers()[0]
        os.kill(victim, signal.SIGKILL)
        wait_until(lambda: len(server.workers()) == 2 and victim not in server.workers(), "a new worker")
        with Backend(server) as again:
            for device, created in challenges:
                answer = again.http.post("/respond", json=approval(device, created))
                assert (answer.status_code, answer.json()["status"]) == (200, "verified")


def test_a_restart_keeps_pending_challenges() -> None:
    with LiveServer(workers=1) as server:
        device = Device.generate("Ed25519")
        with Backend(server) as backend:
            created = backend.create_challenge(device)
        assert server.stop() == 0
        server.start()
        with Backend(server) as backend:
            assert backend.status(created)["status"] == "pending"
            assert backend.http.post("/respond", json=approval(device, created)).status_code == 200


def test_a_stop_answers_long_polls_with_the_current_status_and_exits_with_0() -> None:
    async def poll_and_stop(server: LiveServer, created: dict[str, Any]) -> tuple[httpx.Response, int]:
        async with server.async_client() as client:
            await client.get("/health")
            poll = asyncio.create_task(client.get(status_path(created), params={"wait": 25}))
            # The poll is sent before this request, so the only worker serves it first.
            await asyncio.sleep(0)
            await client.get(status_path(created))
            code = await asyncio.to_thread(server.stop)
            return await poll, code

    with LiveServer(workers=1) as server:
        with Backend(server) as backend:
            created = backend.create_challenge(Device.generate())
        answer, code = asyncio.run(poll_and_stop(server, created))
    assert (answer.status_code, answer.json()["status"], code) == (200, "pending", 0)


def test_a_reload_reads_keys_and_revocations_and_loses_no_challenge() -> None:
    with LiveServer(workers=2, LOG_LEVEL="info") as server:
        keys, revoked = server.directory / "keys", server.directory / "revoked"
        server.environ |= {"API_KEY_FILE": str(keys), "SIGIL_REVOKED_API_KEYS_FILE": str(revoked)}
        keys.touch(0o600)
        keys.write_text("a-preset-key-of-at-least-32-characters")
        revoked.write_text("")
        server.stop()
        server.start()
        device = Device.generate()
        with Backend(server) as backend:
            created = backend.create_challenge(device)
        keys.write_text("another-preset-key-of-at-least-32-characters")
        # As an editor of Windows saves it, and open to every user.
        revoked.write_text(server.api_key.removeprefix("sgk_test_")[:16] + "\n", encoding="utf-8-sig", newline="\r\n")
        revoked.chmod(0o646)
        os.kill(server.pid, signal.SIGHUP)
        with server.client() as client:

            def reloaded() -> bool:
                with contextlib.suppress(httpx.TransportError):
                    assert client.get("/health").status_code == 200, "healthy, also in a worker that is replaced"
                return any(line["event"] == "reload_finished" for line in server.log())

            wait_until(reloaded, "the reload")

            def status_with(key: str) -> int:
                return client.get(status_path(created), headers={"Authorization": f"Bearer {key}"}).status_code

            assert status_with("another-preset-key-of-at-least-32-characters") == 404
            assert status_with("a-preset-key-of-at-least-32-characters") == 401
            assert status_with(server.api_key) == 401
            warnings = [line["message"] for line in server.log() if line["event"] == "setting"]
            assert f"SIGIL_REVOKED_API_KEYS_FILE: every user can change {revoked}; chmod o-w it" in warnings
            assert client.post("/respond", json=approval(device, created)).status_code == 200


def test_a_revoked_key_that_is_also_preset_is_rejected_after_a_reload() -> None:
    with LiveServer(workers=2, LOG_LEVEL="info") as server:
        keys, revoked = server.directory / "keys", server.directory / "revoked"
        server.environ |= {"API_KEY_FILE": str(keys), "SIGIL_REVOKED_API_KEYS_FILE": str(revoked)}
        keys.touch(0o600)
        keys.write_text("a-preset-key-of-at-least-32-characters")
        revoked.write_text("")
        with Backend(server) as backend:
            created = backend.create_challenge(Device.generate())
        server.stop()
        keys.write_text(server.api_key)
        server.start()
        with server.authorised() as client:
            # As before it was preset: the same owner.
            assert client.get(status_path(created)).status_code == 200
            revoked.write_text(server.api_key.removeprefix("sgk_test_")[:8])
            os.kill(server.pid, signal.SIGHUP)
            wait_until(lambda: any(line["event"] == "reload_finished" for line in server.log()), "the reload")
            for _ in range(10):
                assert client.get(status_path(created)).status_code == 401
        warnings = [line["message"] for line in server.log() if line["event"] == "setting"]
        assert any("form of a computed key" in text for text in warnings)
        assert any("revoked by SIGIL_REVOKED_API_KEYS" in text for text in warnings)
        assert not any(server.api_key[:17] in text for text in warnings)


def test_an_unanswered_challenge_expires(backend: Backend, expiring_challenge: ExpiringChallenge) -> None:
    expiring_challenge = expiring_challenge.or_newer(backend)
    created = expiring_challenge.created
    while (status := backend.status(created, wait=25))["status"] == "pending":
        pass
    assert status["status"] == "expired"
    answer = backend.http.post("/respond", json=approval(expiring_challenge.device, created))
    assert (answer.status_code, answer.json()["error"]["code"]) == (410, "CHALLENGE_EXPIRED")
    assert backend.cancel(created).json()["error"]["details"] == {"status": "expired"}


def test_the_log_has_all_events_and_no_secret_after_the_challenge_expires(
    server: LiveServer, expiring_challenge: ExpiringChallenge
) -> None:
    text = server.log_path.read_text()
    assert server.api_key not in text
    assert server.mnemonic not in text
    created = next(line for line in server.log() if line["event"] == "challenge_created")
    assert set(created) >= {"timestamp", "level", "service", "challenge_id", "fingerprint", "action_type", "key_id"}
    assert created["fingerprint"] == expiring_challenge.created["fingerprint"][:6] + "…"
    assert created["request_id"]
    start = next(line for line in server.log() if line["event"] == "sigil_starting")
    assert start["server_id"] == server.identity.server_id
    assert (start["workers"], start["mode"], start["pictogram"]) == (
        2,
        "operational",
        server.identity.pictogram_speakable,
    )
