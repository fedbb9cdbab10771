"""Killed workers, restarts, signals."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import ssl
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .certificates import write_pair
from .conftest import new_preset_key
from .integrator import ACTION, Integrator, approval, assert_error, assert_ok
from .server import START, Reply, Server, in_background, run, wait_until
from .wire import Device, ServerIdentity


def with_retries(request: Callable[[], Reply], seconds: float = 120.0) -> Reply:
    """Retries when a connection breaks, as a client does after its worker was killed."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return request()
        except (OSError, http.client.HTTPException):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def create_challenges(server: Server, count: int) -> tuple[Integrator, list[tuple[Device, dict[str, Any]]]]:
    owner = Integrator(server, server.identity.api_key())
    devices = [Device() for _ in range(count)]
    bodies = [{"device_public_key": device.public, "action": ACTION} for device in devices]
    replies = [
        with_retries(lambda body=body: server.fetch("POST", "/challenge", body, key=owner.key)) for body in bodies
    ]
    return owner, [(device, assert_ok(reply, 201)) for device, reply in zip(devices, replies, strict=True)]


def assert_all_can_be_answered(server: Server, owner: Integrator, pairs: list[tuple[Device, dict[str, Any]]]) -> None:
    for device, challenge in pairs:
        body = approval(device, challenge)
        assert assert_ok(with_retries(lambda body=body: server.fetch("POST", "/respond", body)))["verified"] is True
        path = f"/v1/auth/challenge/{challenge['challenge_id']}/status"
        assert (
            assert_ok(with_retries(lambda path=path: server.fetch("GET", path, key=owner.key)))["status"] == "verified"
        )


@pytest.mark.parametrize("victims", ["one worker", "all workers"])
def test_killed_workers_are_replaced_and_no_pending_challenge_is_lost(restartable_server: Server, victims: str) -> None:
    server = restartable_server
    owner, pairs = create_challenges(server, 12)
    before = server.workers()
    killed = before[:1] if victims == "one worker" else before
    for pid in killed:
        os.kill(pid, signal.SIGKILL)

    assert_all_can_be_answered(server, owner, pairs)

    wait_until(lambda: len(server.workers()) == 2 and not set(server.workers()) & set(killed), START, "no new worker")
    owner, pairs = create_challenges(server, 6)
    assert_all_can_be_answered(server, owner, pairs)


def test_a_restart_keeps_pending_challenges_and_answers_long_polls_before_it(restartable_server: Server) -> None:
    server = restartable_server
    owner, pairs = create_challenges(server, 4)
    long_poll = f"/v1/auth/challenge/{pairs[0][1]['challenge_id']}/status?wait=25"
    with in_background(lambda: server.fetch("GET", long_poll, key=owner.key)) as response:
        server.fetch("GET", long_poll.replace("25", "1"), key=owner.key)
        assert server.stop() == 0
        assert assert_ok(response())["status"] == "pending"

    server.start()

    assert_all_can_be_answered(server, owner, pairs)
    assert_error(server.fetch("POST", "/respond", approval(*pairs[0])), 409, "CHALLENGE_ALREADY_USED")


def test_a_killed_master_ends_its_workers_and_no_pending_challenge_is_lost(restartable_server: Server) -> None:
    server = restartable_server
    owner, pairs = create_challenges(server, 4)
    workers = server.workers()
    assert server.process is not None
    server.close_connections()
    server.process.kill()
    server.process.wait(60)
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers), failure="workers still run")

    server.start()

    assert_all_can_be_answered(server, owner, pairs)


def test_a_restart_with_another_mnemonic_finds_no_earlier_challenge(restartable_server: Server) -> None:
    server = restartable_server
    owner, pairs = create_challenges(server, 3)
    device, challenge = pairs[0]
    old_identity = server.identity
    assert server.stop() == 0
    server.write_mnemonic(ServerIdentity())

    server.start()

    assert old_identity.server_id not in server.fetch("GET", "/info").body.decode()
    assert server.fetch("GET", "/info").json()["server_id"] == server.identity.server_id
    path = f"/v1/auth/challenge/{challenge['challenge_id']}/status"
    assert_error(server.fetch("GET", path, key=owner.key), 401, "UNAUTHORIZED")
    assert_error(
        server.fetch("GET", path, key=server.identity.api_key(key_id=bytes.fromhex(owner.key[9:41]))),
        404,
        "CHALLENGE_NOT_FOUND",
    )
    assert_error(server.fetch("POST", "/respond", approval(device, challenge)), 404, "CHALLENGE_NOT_FOUND")
    assert_all_can_be_answered(server, *create_challenges(server, 2))


def test_sighup_reloads_api_keys_and_no_pending_challenge_is_lost(restartable_server: Server) -> None:
    server = restartable_server
    owner, pairs = create_challenges(server, 4)
    new_key = new_preset_key()
    path = f"/v1/auth/challenge/{uuid.uuid4()}/status"
    assert_error(server.fetch("GET", path, key=new_key), 401, "UNAUTHORIZED")
    keys = Path(server.settings["API_KEY_FILE"])
    keys.write_text(f"{keys.read_text().strip()},{new_key}\n")
    assert server.process is not None
    server.process.send_signal(signal.SIGHUP)

    def known_everywhere() -> bool:
        replies = [with_retries(lambda: server.fetch("GET", path, key=new_key)) for _ in range(8)]
        return {reply.status for reply in replies} == {404}

    wait_until(known_everywhere, START, "the new key is not accepted after SIGHUP")
    assert_all_can_be_answered(server, owner, pairs)


def test_sighup_reloads_a_renewed_certificate(restartable_server: Server) -> None:
    server = restartable_server
    before = server.cert.read_text()
    write_pair(server.cert, server.key)
    assert run("health", env=server.environment).returncode == 0, (
        "healthy, although the new certificate is not loaded yet"
    )
    assert server.process is not None
    server.process.send_signal(signal.SIGHUP)
    context = ssl.create_default_context(cafile=str(server.cert))

    def renewed() -> bool:
        connection = http.client.HTTPSConnection("127.0.0.1", server.port, context=context, timeout=10)
        with contextlib.closing(connection), contextlib.suppress(OSError, http.client.HTTPException):
            connection.request("GET", "/health")
            return connection.getresponse().status == 200
        return False

    wait_until(lambda: all(renewed() for _ in range(6)), START, "the old certificate is still served")
    assert server.cert.read_text() != before
    server.close_connections()


def test_the_state_directory_is_for_the_servers_user_alone(server: Server) -> None:
    assert server.state.stat().st_mode & 0o777 == 0o700
    assert server.state.stat().st_uid == os.getuid()
