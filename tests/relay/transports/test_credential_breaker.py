"""Rejected credentials: one log line, one probe a minute."""

from __future__ import annotations

import json

import pytest

from relay.transports import Load, Outcome, OutgoingPush
from relay.transports.credential_breaker import PROBE_SECONDS, WAIT_SECONDS, CredentialBreaker
from tests.relay.transports.conftest import new_push
from tests.support.services import Clock


class Provider:
    """Returns `outcome` for each push, and counts the pushes."""

    def __init__(self) -> None:
        self.outcome = Outcome("delivered")
        self.pushes = 0

    def open(self) -> None: ...

    async def send(self, push: OutgoingPush) -> Outcome:
        self.pushes += 1
        return self.outcome

    def load(self) -> Load:
        return Load()

    async def close(self) -> None: ...


@pytest.fixture
def provider() -> Provider:
    return Provider()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def reports() -> list[bool]:
    return []


@pytest.fixture
def breaker(provider: Provider, clock: Clock, reports: list[bool]) -> CredentialBreaker:
    breaker = CredentialBreaker("apns", provider, clock=clock, on_denied=reports.append)
    breaker.open()
    return breaker


DENIED = Outcome("denied", "InvalidProviderToken")


async def test_a_denial_is_reported_once_and_the_pushes_wait(
    breaker: CredentialBreaker, provider: Provider, reports: list[bool], capfd: pytest.CaptureFixture[str]
) -> None:
    provider.outcome = DENIED
    outcomes = [await breaker.send(new_push("apns")) for _ in range(50)]
    assert set(outcomes) == {Outcome("retry", "credentials_refused", after=WAIT_SECONDS)}
    assert provider.pushes == 1
    assert reports == [True]
    (line,) = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert (line["level"], line["event"], line["reason"]) == (
        "error",
        "provider_credentials_refused",
        "InvalidProviderToken",
    )


async def test_one_push_a_minute_is_a_probe(breaker: CredentialBreaker, provider: Provider, clock: Clock) -> None:
    provider.outcome = DENIED
    await breaker.send(new_push("apns"))
    clock.now += PROBE_SECONDS - 10
    assert (await breaker.send(new_push("apns"))).after == pytest.approx(10)
    clock.now += 10
    for _ in range(20):
        await breaker.send(new_push("apns"))
    assert provider.pushes == 2


async def test_a_successful_probe_closes_the_circuit_breaker(
    breaker: CredentialBreaker, provider: Provider, clock: Clock, reports: list[bool], capfd: pytest.CaptureFixture[str]
) -> None:
    provider.outcome = DENIED
    await breaker.send(new_push("apns"))
    clock.now += PROBE_SECONDS
    provider.outcome = Outcome("gone", "Unregistered")
    assert await breaker.send(new_push("apns")) == Outcome("gone", "Unregistered")
    provider.outcome = Outcome("delivered")
    assert [await breaker.send(new_push("apns")) for _ in range(3)] == [Outcome("delivered")] * 3
    assert reports == [True, False]
    assert "provider_credentials_accepted" in capfd.readouterr().out


async def test_another_reason_for_the_denial_is_logged_too(
    breaker: CredentialBreaker, provider: Provider, clock: Clock, capfd: pytest.CaptureFixture[str]
) -> None:
    for reason in ("InvalidProviderToken", "InvalidProviderToken", "TopicDisallowed", "TopicDisallowed"):
        provider.outcome = Outcome("denied", reason)
        await breaker.send(new_push("apns"))
        clock.now += PROBE_SECONDS
    lines = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert [line["reason"] for line in lines] == ["InvalidProviderToken", "TopicDisallowed"]


async def test_an_unreachable_provider_leaves_the_circuit_breaker_open(
    breaker: CredentialBreaker, provider: Provider, clock: Clock, reports: list[bool]
) -> None:
    provider.outcome = DENIED
    await breaker.send(new_push("apns"))
    clock.now += PROBE_SECONDS
    provider.outcome = Outcome("retry", "unreachable")
    await breaker.send(new_push("apns"))
    assert (await breaker.send(new_push("apns"))).error == "credentials_refused"
    assert reports == [True]


async def test_a_local_outcome_is_no_probe_and_reports_nothing(
    breaker: CredentialBreaker, provider: Provider, clock: Clock, reports: list[bool], capfd: pytest.CaptureFixture[str]
) -> None:
    """Otherwise a device with a malformed token would close the circuit breaker once a minute, and use up the probe."""
    provider.outcome = DENIED
    await breaker.send(new_push("apns"))
    clock.now += PROBE_SECONDS
    for kind in ("gone", "refused"):
        provider.outcome = Outcome(kind, "local decision", local=True)
        assert await breaker.send(new_push("apns")) == provider.outcome
    assert reports == [True]
    assert "provider_credentials_accepted" not in capfd.readouterr().out
    provider.outcome = DENIED
    assert (await breaker.send(new_push("apns"))).error == "credentials_refused"
    assert provider.pushes == 4
    assert (await breaker.send(new_push("apns"))).error == "credentials_refused"
    assert provider.pushes == 4
