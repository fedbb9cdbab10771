"""What is limited: pending challenges, creations, mutes after an unknown trigger, failures by address."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest

from .integrator import ACTION, Integrator, approval, approve, good, refused, rejection, respond
from .server import Reply, Server, ask, at_once
from .wire import Device

Attempt = Callable[..., Reply]
ADDRESSES = (f"127.0.1.{i}" for i in itertools.count(1))
"""A loopback address of its own for each test, so that none uses up another's budget."""


def test_the_sixth_pending_challenge_is_too_many(owner: Integrator, device: Device) -> None:
    made = [owner.challenge(device) for _ in range(5)]
    refused(owner.create(device), 429, "TOO_MANY_PENDING")
    approve(owner.server, device, made[2])
    owner.challenge(device)
    refused(owner.create(device), 429, "TOO_MANY_PENDING")


def test_every_end_makes_room_again(owner: Integrator, device: Device) -> None:
    made = [owner.challenge(device) for _ in range(5)]
    good(owner.cancel(made[0]["challenge_id"]))
    good(respond(owner.server, rejection(device, made[1])))
    approve(owner.server, device, made[2])
    for _ in range(3):
        owner.challenge(device)
    refused(owner.create(device), 429, "TOO_MANY_PENDING")


def test_the_limit_is_of_one_owner_and_one_device(owner: Integrator, other_owner: Integrator, device: Device) -> None:
    for _ in range(5):
        owner.challenge(device)
    refused(owner.create(device), 429, "TOO_MANY_PENDING")
    other_owner.challenge(device)
    owner.challenge(Device())


def test_creations_at_once_do_not_pass_the_limit(owner: Integrator, device: Device) -> None:
    body = {"device_public_key": device.public, "action": ACTION}
    replies = at_once(
        owner.server, 20, lambda connection, _: ask(connection, "POST", "/challenge", body, key=owner.key)
    )
    assert sorted(reply.status for reply in replies) == [201] * 5 + [429] * 15


def test_the_limit_can_be_set(public_server: Server) -> None:
    owner = Integrator(public_server, public_server.identity.api_key())
    device = Device()
    for _ in range(3):
        owner.challenge(device)
    refused(owner.create(device), 429, "TOO_MANY_PENDING")


def test_ten_creations_a_minute_for_one_owner_and_device(public_server: Server) -> None:
    owner, other = (Integrator(public_server, public_server.identity.api_key()) for _ in range(2))
    device = Device()
    for _ in range(10):
        good(owner.cancel(owner.challenge(device)["challenge_id"]))
    answer = owner.create(device)
    refused(answer, 429, "RATE_LIMITED")
    assert int(answer.headers["retry-after"]) <= 60
    other.challenge(device)
    owner.challenge(Device())


def test_an_unknown_trigger_mutes_the_pair_for_a_minute(
    owner: Integrator, other_owner: Integrator, device: Device
) -> None:
    waiting = owner.challenge(device)
    good(respond(owner.server, rejection(device, owner.challenge(device), reason="unknown_trigger")))
    for _ in range(3):
        answer = owner.create(device)
        refused(answer, 429, "RATE_LIMITED")
        assert 50 <= int(answer.headers["retry-after"]) <= 60
    other_owner.challenge(device)
    owner.challenge(Device())
    approve(owner.server, device, waiting)


def test_other_reasons_mute_nobody(owner: Integrator, device: Device) -> None:
    for reason in (None, "cancelled"):
        good(respond(owner.server, rejection(device, owner.challenge(device), reason=reason)))
        owner.challenge(device)


def test_an_unknown_trigger_on_an_approval_mutes_nobody(owner: Integrator, device: Device) -> None:
    good(respond(owner.server, {**approval(device, owner.challenge(device)), "reason": "unknown_trigger"}))
    owner.challenge(device)


# Failures by address


def wrong_key(server: Server, source: str, **headers: str) -> Reply:
    body = {"device_public_key": "x", "action": ACTION}
    return server.fetch("POST", "/challenge", body, key="sgk_test_wrong", source=source, headers=headers)


def wrong_answer(server: Server, challenge: dict[str, Any], source: str, **headers: str) -> Reply:
    return server.fetch("POST", "/respond", approval(Device(), challenge), source=source, headers=headers)


@pytest.fixture
def stranger(limited_server: Server) -> Attempt:
    """Sends one wrong answer from an address, perhaps with a forwarded header."""
    challenge = Integrator(limited_server, limited_server.identity.api_key()).challenge(Device())

    def attempt(source: str, forwarded: str | None = None) -> Reply:
        headers = {"X-Forwarded-For": forwarded} if forwarded else {}
        return wrong_answer(limited_server, challenge, source, **headers)

    return attempt


def limited(attempt: Any, most: int = 40) -> Reply:
    """Repeats until the address is limited; connections spread over workers, each with its part of the budget."""
    replies = []
    for _ in range(most):
        replies.append(attempt())
        if replies[-1].status == 429:
            assert len(replies) > 1
            assert {reply.status for reply in replies[:-1]} == {401}
            return replies[-1]
    raise AssertionError(f"{most} failures and no limit")


def test_wrong_keys_are_charged_to_the_address_and_right_ones_go_on(limited_server: Server) -> None:
    source = next(ADDRESSES)
    owner = Integrator(limited_server, limited_server.identity.api_key())
    challenge = owner.challenge(Device())
    for _ in range(40):
        assert wrong_key(limited_server, source).status in {401, 429}
    replies = [wrong_answer(limited_server, challenge, source) for _ in range(4)]
    for reply in replies:
        refused(reply, 429, "RATE_LIMITED")
    for _ in range(6):
        body = {"device_public_key": Device().public, "action": ACTION}
        good(limited_server.fetch("POST", "/challenge", body, key=owner.key, source=source), 201)


def test_wrong_answers_are_limited_by_address(limited_server: Server, stranger: Attempt) -> None:
    source = next(ADDRESSES)
    reply = limited(lambda: stranger(source))
    refused(reply, 429, "RATE_LIMITED")
    assert int(reply.headers["retry-after"]) <= 60
    owner = Integrator(limited_server, limited_server.identity.api_key())
    device = Device()
    challenge = owner.challenge(device)
    good(limited_server.fetch("POST", "/respond", approval(device, challenge), source=next(ADDRESSES)))


def test_right_answers_cost_an_address_nothing(limited_server: Server) -> None:
    source = next(ADDRESSES)
    owner = Integrator(limited_server, limited_server.identity.api_key())
    for _ in range(12):
        device = Device()
        body = approval(device, owner.challenge(device))
        good(limited_server.fetch("POST", "/respond", body, source=source))


def test_wrong_pending_requests_are_limited_by_address(limited_server: Server) -> None:
    source = next(ADDRESSES)

    def attempt() -> Reply:
        body = Device().pending_body("0" * 64)
        return limited_server.fetch("POST", "/device/pending", body, source=source)

    refused(limited(attempt), 429, "RATE_LIMITED")


def test_health_is_never_limited(limited_server: Server, stranger: Attempt) -> None:
    source = next(ADDRESSES)
    limited(lambda: stranger(source))
    replies = [limited_server.fetch("GET", "/health", source=source) for _ in range(100)]
    assert {reply.status for reply in replies} == {200}


def test_an_untrusted_peers_forwarded_header_is_ignored(stranger: Attempt) -> None:
    source, made_up = next(ADDRESSES), itertools.count(1)
    refused(limited(lambda: stranger(source, f"198.51.100.{next(made_up)}")), 429, "RATE_LIMITED")


def test_a_trusted_proxys_forwarded_address_is_the_client(stranger: Attempt) -> None:
    refused(limited(lambda: stranger("127.0.0.1", "203.0.113.7")), 429, "RATE_LIMITED")
    refused(stranger("127.0.0.1", "203.0.113.8"), 401, "INVALID_SIGNATURE")


def test_what_a_client_put_before_the_proxys_own_entry_is_not_believed(stranger: Attempt) -> None:
    made_up = itertools.count(1)
    reply = limited(lambda: stranger("127.0.0.1", f"198.51.100.{next(made_up)}, 203.0.113.77"))
    refused(reply, 429, "RATE_LIMITED")


def test_addresses_of_one_ipv6_network_share_a_budget(stranger: Attempt) -> None:
    made_up = itertools.count(1)
    reply = limited(lambda: stranger("127.0.0.1", f"2001:db8:7:7::{next(made_up):x}"))
    refused(reply, 429, "RATE_LIMITED")
    refused(stranger("127.0.0.1", "2001:db8:7:8::1"), 401, "INVALID_SIGNATURE")
