"""Status, long polls and cancellation."""

from __future__ import annotations

import contextlib
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from .integrator import ACTION, Integrator, approval, approve, assert_error, assert_ok, rejection, respond
from .server import Reply, in_background, send
from .wire import Device, pictogram_of

# The longest wait. A response before it did not wait, or was woken.
MAX_WAIT = 25


def path_of(challenge: dict[str, Any]) -> str:
    return f"/v1/auth/challenge/{challenge['challenge_id']}/status"


def test_a_pending_status_has_the_documented_members(owner: Integrator, device: Device) -> None:
    challenge = owner.challenge(device)
    answer = owner.status(challenge["challenge_id"])
    state = assert_ok(answer)
    emoji, names = pictogram_of(device.fingerprint)
    push = state.pop("push")
    assert state == {
        "challenge_id": challenge["challenge_id"],
        "status": "pending",
        "fingerprint": device.fingerprint,
        "pictogram": emoji,
        "pictogram_speakable": names,
        "action": ACTION,
        "expires_at": challenge["expires_at"],
    }
    assert push["status"] in {"queued", "delivered", "failed", "disabled"}
    assert set(push) <= {"status", "error"}
    assert answer.headers["cache-control"] == "no-store"


def test_a_verified_status_has_the_documented_members(owner: Integrator, device: Device) -> None:
    challenge = owner.challenge(device)
    approve(owner.server, device, challenge)
    assert set(owner.state(challenge["challenge_id"])) == {
        "challenge_id",
        "status",
        "fingerprint",
        "pictogram",
        "pictogram_speakable",
        "action",
        "decision",
        "verified_at",
        "expires_at",
        "push",
    }


@pytest.mark.parametrize("wait", ["26", "-1", "x", "1.5", "", "1e1", "%D9%A3", "99999999999999999999", "%20", "NaN"])
def test_a_wait_out_of_bounds_is_rejected(owner: Integrator, device: Device, wait: str) -> None:
    reply = owner.server.fetch("GET", f"{path_of(owner.challenge(device))}?wait={wait}", key=owner.key)
    assert_error(reply, 400, "INVALID_REQUEST", "wait")


def test_a_request_without_wait_returns_at_once(owner: Integrator, device: Device) -> None:
    challenge_id = owner.challenge(device)["challenge_id"]
    began = time.monotonic()
    assert assert_ok(owner.status(challenge_id, wait=0))["status"] == "pending"
    assert assert_ok(owner.status(challenge_id))["status"] == "pending"
    assert time.monotonic() - began < MAX_WAIT


def test_a_long_poll_returns_pending_when_nothing_happens(owner: Integrator, device: Device) -> None:
    began = time.monotonic()
    assert assert_ok(owner.status(owner.challenge(device)["challenge_id"], wait=1))["status"] == "pending"
    assert 0.9 <= time.monotonic() - began < MAX_WAIT


def test_a_long_poll_for_a_final_challenge_returns_at_once(owner: Integrator, device: Device) -> None:
    challenge = owner.challenge(device)
    approve(owner.server, device, challenge)
    began = time.monotonic()
    assert assert_ok(owner.status(challenge["challenge_id"], wait=25))["status"] == "verified"
    assert time.monotonic() - began < MAX_WAIT


def test_one_response_ends_forty_long_polls(owner: Integrator, device: Device) -> None:
    challenge = owner.challenge(device)
    long_polls, path = 40, path_of(challenge) + "?wait=25"
    with contextlib.ExitStack() as stack:
        connections = [stack.enter_context(contextlib.closing(owner.server.connect())) for _ in range(long_polls)]
        pool = stack.enter_context(ThreadPoolExecutor(long_polls))
        futures = [pool.submit(send, connection, "GET", path, key=owner.key) for connection in connections]
        assert assert_ok(owner.status(challenge["challenge_id"], wait=1))["status"] == "pending"
        assert not any(future.done() for future in futures)
        began = time.monotonic()
        approve(owner.server, device, challenge)
        replies: list[Reply] = [future.result(120) for future in futures]
        assert time.monotonic() - began < MAX_WAIT
    assert {assert_ok(reply)["status"] for reply in replies} == {"verified"}


@pytest.mark.parametrize("final_state", ["cancelled", "rejected", "wrong_code"])
def test_every_final_state_ends_a_long_poll(owner: Integrator, device: Device, final_state: str) -> None:
    challenge = owner.challenge(device, number_matching=final_state == "wrong_code")
    with in_background(lambda: owner.server.fetch("GET", path_of(challenge) + "?wait=25", key=owner.key)) as response:
        assert_ok(owner.status(challenge["challenge_id"], wait=1))
        began = time.monotonic()
        if final_state == "cancelled":
            assert_ok(owner.cancel(challenge["challenge_id"]))
        elif final_state == "rejected":
            assert_ok(respond(owner.server, rejection(device, challenge)))
        else:
            for i in (1, 2, 3):
                wrong = f"{(int(challenge['match_code']) + i) % 100:02}"
                respond(owner.server, approval(device, challenge, code=wrong))
        status = assert_ok(response())["status"]
        assert time.monotonic() - began < MAX_WAIT
    assert status == ("cancelled" if final_state == "cancelled" else "rejected")


def test_long_polls_that_disconnect_do_no_harm(owner: Integrator, device: Device) -> None:
    challenge = owner.challenge(device)
    request = f"GET {path_of(challenge)}?wait=25 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {owner.key}\r\n\r\n"
    for _ in range(10):
        with owner.server.socket() as connection:
            connection.sendall(request.encode())
    approve(owner.server, device, challenge)
    assert assert_ok(owner.status(challenge["challenge_id"], wait=25))["status"] == "verified"


def test_a_repeated_cancellation_returns_the_same_status(owner: Integrator, device: Device) -> None:
    challenge_id = owner.challenge(device)["challenge_id"]
    first, again = owner.cancel(challenge_id), owner.cancel(challenge_id)
    assert assert_ok(first)["status"] == assert_ok(again)["status"] == "cancelled"
    assert assert_ok(first)["challenge_id"] == challenge_id
    assert first.headers["cache-control"] == "no-store"
    state = owner.state(challenge_id)
    assert state["status"] == "cancelled"
    assert state.get("decision") is None


@pytest.mark.parametrize("final_state", ["verified", "rejected"])
def test_an_answered_challenge_cannot_be_cancelled(owner: Integrator, device: Device, final_state: str) -> None:
    challenge = owner.challenge(device)
    assert_ok(respond(owner.server, (approval if final_state == "verified" else rejection)(device, challenge)))
    details = assert_error(owner.cancel(challenge["challenge_id"]), 409, "CHALLENGE_ALREADY_USED")
    assert details["status"] == final_state
    assert owner.state(challenge["challenge_id"])["status"] == final_state


def test_an_unknown_challenge_can_be_neither_read_nor_cancelled(owner: Integrator) -> None:
    assert_error(owner.status(str(uuid.uuid4())), 404, "CHALLENGE_NOT_FOUND")
    assert_error(owner.status(str(uuid.uuid4()), wait=25), 404, "CHALLENGE_NOT_FOUND")
    assert_error(owner.cancel(str(uuid.uuid4())), 404, "CHALLENGE_NOT_FOUND")
