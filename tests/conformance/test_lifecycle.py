"""Workers that are killed, servers that start again, signals."""

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
from .conftest import next_key
from .integrator import ACTION, Integrator, approval, good, refused
from .server import START, Reply, Server, in_background, run, until
from .wire import Device, ServerIdentity


def patiently(request: Callable[[], Reply], seconds: float = 120.0) -> Reply:
    """Tries again when a connection breaks, as a client does whose worker has just died."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return request()
        except (OSError, http.client.HTTPException):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def made(server: Server, count: int) -> tuple[Integrator, list[tuple[Device, dict[str, Any]]]]:
    owner = Integrator(server, server.identity.api_key())
    devices = [Device() for _ in range(count)]
    bodies = [{"device_public_key": device.public, "action": ACTION} for device in devices]
    replies = [patiently(lambda body=body: server.fetch("POST", "/challenge", body, key=owner.key)) for body in bodies]
    return owner, [(device, good(reply, 201)) for device, reply in zip(devices, replies, strict=True)]


def all_answerable(server: Server, owner: Integrator, pairs: list[tuple[Device, dict[str, Any]]]) -> None:
    for device, challenge in pairs:
        body = approval(device, challenge)
        assert good(patiently(lambda body=body: server.fetch("POST", "/respond", body)))["verified"] is True
        path = f"/v1/auth/challenge/{challenge['challenge_id']}/status"
        assert good(patiently(lambda path=path: server.fetch("GET", path, key=owner.key)))["status"] == "verified"


@pytest.mark.parametrize("victims", ["one worker", "all workers"])
def test_killed_workers_lose_no_pending_challenge_and_come_back(mortal_server: Server, victims: str) -> None:
    server = mortal_server
    owner, pairs = made(server, 12)
    before = server.workers()
    killed = before[:1] if victims == "one worker" else before
    for pid in killed:
        os.kill(pid, signal.SIGKILL)

    all_answerable(server, owner, pairs)

    until(lambda: len(server.workers()) == 2 and not set(server.workers()) & set(killed), START, "no new worker")
    owner, pairs = made(server, 6)
    all_answerable(server, owner, pairs)


def test_a_restart_adopts_what_was_pending_and_answers_waiters_first(mortal_server: Server) -> None:
    server = mortal_server
    owner, pairs = made(server, 4)
    waited = f"/v1/auth/challenge/{pairs[0][1]['challenge_id']}/status?wait=25"
    with in_background(lambda: server.fetch("GET", waited, key=owner.key)) as waiter:
        server.fetch("GET", waited.replace("25", "1"), key=owner.key)
        assert server.stop() == 0
        assert good(waiter())["status"] == "pending"

    server.start()

    all_answerable(server, owner, pairs)
    refused(server.fetch("POST", "/respond", approval(*pairs[0])), 409, "CHALLENGE_ALREADY_USED")


def test_a_killed_master_takes_its_workers_along_and_loses_nothing(mortal_server: Server) -> None:
    server = mortal_server
    owner, pairs = made(server, 4)
    workers = server.workers()
    assert server.process is not None
    server.forget_connections()
    server.process.kill()
    server.process.wait(60)
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers), told="orphans go on")

    server.start()

    all_answerable(server, owner, pairs)


def test_a_restart_with_other_words_knows_nothing_of_before(mortal_server: Server) -> None:
    server = mortal_server
    owner, pairs = made(server, 3)
    device, challenge = pairs[0]
    old_words = server.identity
    assert server.stop() == 0
    server.write_words(ServerIdentity())

    server.start()

    assert old_words.server_id not in server.fetch("GET", "/info").body.decode()
    assert server.fetch("GET", "/info").json()["server_id"] == server.identity.server_id
    path = f"/v1/auth/challenge/{challenge['challenge_id']}/status"
    refused(server.fetch("GET", path, key=owner.key), 401, "UNAUTHORIZED")
    refused(
        server.fetch("GET", path, key=server.identity.api_key(key_id=bytes.fromhex(owner.key[9:41]))),
        404,
        "CHALLENGE_NOT_FOUND",
    )
    refused(server.fetch("POST", "/respond", approval(device, challenge)), 404, "CHALLENGE_NOT_FOUND")
    all_answerable(server, *made(server, 2))


def test_a_hangup_reads_keys_again_and_loses_no_pending_challenge(mortal_server: Server) -> None:
    server = mortal_server
    owner, pairs = made(server, 4)
    fresh = next_key()
    path = f"/v1/auth/challenge/{uuid.uuid4()}/status"
    refused(server.fetch("GET", path, key=fresh), 401, "UNAUTHORIZED")
    keys = Path(server.settings["API_KEY_FILE"])
    keys.write_text(f"{keys.read_text().strip()},{fresh}\n")
    assert server.process is not None
    server.process.send_signal(signal.SIGHUP)

    def known_everywhere() -> bool:
        replies = [patiently(lambda: server.fetch("GET", path, key=fresh)) for _ in range(8)]
        return {reply.status for reply in replies} == {404}

    until(known_everywhere, START, "the new key is not accepted after SIGHUP")
    all_answerable(server, owner, pairs)


def test_a_hangup_reads_a_renewed_certificate(mortal_server: Server) -> None:
    server = mortal_server
    before = server.cert.read_text()
    write_pair(server.cert, server.key)
    assert run("health", env=server.environment).returncode == 0, "healthy, though its new certificate has to wait"
    assert server.process is not None
    server.process.send_signal(signal.SIGHUP)
    context = ssl.create_default_context(cafile=str(server.cert))

    def renewed() -> bool:
        connection = http.client.HTTPSConnection("127.0.0.1", server.port, context=context, timeout=10)
        with contextlib.closing(connection), contextlib.suppress(OSError, http.client.HTTPException):
            connection.request("GET", "/health")
            return connection.getresponse().status == 200
        return False

    until(lambda: all(renewed() for _ in range(6)), START, "the old certificate is still served")
    assert server.cert.read_text() != before
    server.forget_connections()


def test_the_state_directory_is_for_the_servers_user_alone(server: Server) -> None:
    assert server.state.stat().st_mode & 0o777 == 0o700
    assert server.state.stat().st_uid == os.getuid()
