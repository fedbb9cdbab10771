"""Limits: pending challenges, creations, mutes after an unknown trigger, failures per address."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest

from .integrator import ACTION, Integrator, approval, approve, assert_error, assert_ok, rejection, respond
from .server import Reply, Server, concurrently, send
from .wire import Device

Attempt = Callable[..., Reply]
ADDRESSES = (f"127.0.1.{i}" for i in itertools.count(1))
"""Each test uses a new loopback address, so that no test uses the budget of another."""


def test_the_sixth_pending_challenge_is_too_many(owner: Integrator, device: Device) -> None:
    challenges = [owner.challenge(device) for _ in range(5)]
    assert_error(owner.create(device), 429, "TOO_MANY_PENDING")
    approve(owner.server, device, challenges[2])
    owner.challenge(device)
    assert_error(owner.create(device), 429, "TOO_MANY_PENDING")


def test_every_final_state_frees_its_pending_slot(owner: Integrator, device: Device) -> None:
    challenges = [owner.challenge(device) for _ in range(5)]
    assert_ok(owner.cancel(challenges[0]["challenge_id"]))
    assert_ok(respond(owner.server, rejection(device, challenges[1])))
    approve(owner.server, device, challenges[2])
    for _ in range(3):
        owner.challenge(device)
    assert_error(owner.create(device), 429, "TOO_MANY_PENDING")


def test_the_pending_limit_is_per_owner_and_device(owner: Integrator, other_owner: Integrator, device: Device) -> None:
    for _ in range(5):
        owner.challenge(device)
    assert_error(owner.create(device), 429, "TOO_MANY_PENDING")
    other_owner.challenge(device)
    owner.challenge(Device())


def test_concurrent_creations_do_not_exceed_the_limit(owner: Integrator, device: Device) -> None:
    body = {"device_public_key": device.public, "action": ACTION}
    replies = concurrently(
        owner.server, 20, lambda connection, _: send(connection, "POST", "/challenge", body, key=owner.key)
    )
    assert sorted(reply.status for reply in replies) == [201] * 5 + [429] * 15


def test_the_pending_limit_is_configurable(public_server: Server) -> None:
    owner = Integrator(public_server, public_server.identity.api_key())
    device = Device()
    for _ in range(3):
        owner.challenge(device)
    assert_error(owner.create(device), 429, "TOO_MANY_PENDING")


def test_the_device_rate_is_ten_creations_a_minute_per_owner_and_device(public_server: Server) -> None:
    owner, other = (Integrator(public_server, public_server.identity.api_key()) for _ in range(2))
    device = Device()
    for _ in range(10):
        assert_ok(owner.cancel(owner.challenge(device)["challenge_id"]))
    answer = owner.create(device)
    assert_error(answer, 429, "RATE_LIMITED")
    assert int(answer.headers["retry-after"]) <= 60
    other.challenge(device)
    owner.challenge(Device())


def test_an_unknown_trigger_mutes_the_owner_for_the_device_for_a_minute(
    owner: Integrator, other_owner: Integrator, device: Device
) -> None:
    pending = owner.challenge(device)
    assert_ok(respond(owner.server, rejection(device, owner.challenge(device), reason="unknown_trigger")))
    for _ in range(3):
        answer = owner.create(device)
        assert_error(answer, 429, "RATE_LIMITED")
        assert 50 <= int(answer.headers["retry-after"]) <= 60
    other_owner.challenge(device)
    owner.challenge(Device())
    approve(owner.server, device, pending)


def test_other_reasons_do_not_mute(owner: Integrator, device: Device) -> None:
    for reason in (None, "cancelled"):
        assert_ok(respond(owner.server, rejection(device, owner.challenge(device), reason=reason)))
        owner.challenge(device)


def test_an_unknown_trigger_on_an_approval_does_not_mute(owner: Integrator, device: Device) -> None:
    assert_ok(respond(owner.server, {**approval(device, owner.challenge(device)), "reason": "unknown_trigger"}))
    owner.challenge(device)


# Failures per address


def send_wrong_key(server: Server, source: str, **headers: str) -> Reply:
    body = {"device_public_key": "x", "action": ACTION}
    return server.fetch("POST", "/challenge", body, key="sgk_test_wrong", source=source, headers=headers)


def send_wrong_response(server: Server, challenge: dict[str, Any], source: str, **headers: str) -> Reply:
    return server.fetch("POST", "/respond", approval(Device(), challenge), source=source, headers=headers)


@pytest.fixture
def wrong_response_attempt(limited_server: Server) -> Attempt:
    """Sends one wrong response from an address, optionally with a forwarded header."""
    challenge = Integrator(limited_server, limited_server.identity.api_key()).challenge(Device())

    def attempt(source: str, forwarded: str | None = None) -> Reply:
        headers = {"X-Forwarded-For": forwarded} if forwarded else {}
        return send_wrong_response(limited_server, challenge, source, **headers)

    return attempt


def repeat_until_limited(attempt: Any, most: int = 40) -> Reply:
    """Repeats until the address is limited. Connections spread over the workers; each has a part of the budget."""
    replies = []
    for _ in range(most):
        replies.append(attempt())
        if replies[-1].status == 429:
            assert len(replies) > 1
            assert {reply.status for reply in replies[:-1]} == {401}
            return replies[-1]
    raise AssertionError(f"{most} failures without a limit")


def test_wrong_keys_are_charged_to_the_address_and_valid_keys_still_work(limited_server: Server) -> None:
    source = next(ADDRESSES)
    owner = Integrator(limited_server, limited_server.identity.api_key())
    challenge = owner.challenge(Device())
    for _ in range(40):
        assert send_wrong_key(limited_server, source).status in {401, 429}
    replies = [send_wrong_response(limited_server, challenge, source) for _ in range(4)]
    for reply in replies:
        assert_error(reply, 429, "RATE_LIMITED")
    for _ in range(6):
        body = {"device_public_key": Device().public, "action": ACTION}
        assert_ok(limited_server.fetch("POST", "/challenge", body, key=owner.key, source=source), 201)


def test_wrong_responses_are_limited_per_address(limited_server: Server, wrong_response_attempt: Attempt) -> None:
    source = next(ADDRESSES)
    reply = repeat_until_limited(lambda: wrong_response_attempt(source))
    assert_error(reply, 429, "RATE_LIMITED")
    assert int(reply.headers["retry-after"]) <= 60
    owner = Integrator(limited_server, limited_server.identity.api_key())
    device = Device()
    challenge = owner.challenge(device)
    assert_ok(limited_server.fetch("POST", "/respond", approval(device, challenge), source=next(ADDRESSES)))


def test_valid_responses_are_not_charged_to_the_address(limited_server: Server) -> None:
    source = next(ADDRESSES)
    owner = Integrator(limited_server, limited_server.identity.api_key())
    for _ in range(12):
        device = Device()
        body = approval(device, owner.challenge(device))
        assert_ok(limited_server.fetch("POST", "/respond", body, source=source))


def test_wrong_pending_requests_are_limited_per_address(limited_server: Server) -> None:
    source = next(ADDRESSES)

    def attempt() -> Reply:
        body = Device().pending_body("0" * 64)
        return limited_server.fetch("POST", "/device/pending", body, source=source)

    assert_error(repeat_until_limited(attempt), 429, "RATE_LIMITED")


def test_health_is_never_limited(limited_server: Server, wrong_response_attempt: Attempt) -> None:
    source = next(ADDRESSES)
    repeat_until_limited(lambda: wrong_response_attempt(source))
    replies = [limited_server.fetch("GET", "/health", source=source) for _ in range(100)]
    assert {reply.status for reply in replies} == {200}


def test_the_forwarded_header_of_an_untrusted_peer_is_ignored(wrong_response_attempt: Attempt) -> None:
    source, made_up = next(ADDRESSES), itertools.count(1)
    assert_error(
        repeat_until_limited(lambda: wrong_response_attempt(source, f"198.51.100.{next(made_up)}")), 429, "RATE_LIMITED"
    )


def test_the_address_forwarded_by_a_trusted_proxy_is_the_client(wrong_response_attempt: Attempt) -> None:
    assert_error(repeat_until_limited(lambda: wrong_response_attempt("127.0.0.1", "203.0.113.7")), 429, "RATE_LIMITED")
    assert_error(wrong_response_attempt("127.0.0.1", "203.0.113.8"), 401, "INVALID_SIGNATURE")


def test_entries_before_the_entry_of_the_proxy_are_ignored(wrong_response_attempt: Attempt) -> None:
    made_up = itertools.count(1)
    reply = repeat_until_limited(
        lambda: wrong_response_attempt("127.0.0.1", f"198.51.100.{next(made_up)}, 203.0.113.77")
    )
    assert_error(reply, 429, "RATE_LIMITED")


def test_addresses_of_one_ipv6_network_share_a_budget(wrong_response_attempt: Attempt) -> None:
    made_up = itertools.count(1)
    reply = repeat_until_limited(lambda: wrong_response_attempt("127.0.0.1", f"2001:db8:7:7::{next(made_up):x}"))
    assert_error(reply, 429, "RATE_LIMITED")
    assert_error(wrong_response_attempt("127.0.0.1", "2001:db8:7:8::1"), 401, "INVALID_SIGNATURE")
