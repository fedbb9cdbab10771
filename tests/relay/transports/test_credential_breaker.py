"""Credentials that a provider refuses: one line, one probe a minute."""

from __future__ import annotations

import json

import pytest

from relay.transports import Load, Outcome, OutgoingPush
from relay.transports.credential_breaker import PROBE_SECONDS, WAIT_SECONDS, CredentialBreaker
from tests.relay.transports.conftest import letter
from tests.support.services import Clock


class Provider:
    """Does what it is told, and counts."""

    def __init__(self) -> None:
        self.says = Outcome("delivered")
        self.asked = 0

    def open(self) -> None: ...

    async def send(self, letter: OutgoingPush) -> Outcome:
        self.asked += 1
        return self.says

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
def told() -> list[bool]:
    return []


@pytest.fixture
def standing(provider: Provider, clock: Clock, told: list[bool]) -> CredentialBreaker:
    standing = CredentialBreaker("apns", provider, clock=clock, on_denied=told.append)
    standing.open()
    return standing


DENIED = Outcome("denied", "InvalidProviderToken")


async def test_a_denial_is_told_once_and_the_pushes_wait(
    standing: CredentialBreaker, provider: Provider, told: list[bool], capfd: pytest.CaptureFixture[str]
) -> None:
    provider.says = DENIED
    outcomes = [await standing.send(letter("apns")) for _ in range(50)]
    assert set(outcomes) == {Outcome("retry", "credentials_refused", after=WAIT_SECONDS)}
    assert provider.asked == 1
    assert told == [False, True]
    (line,) = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert (line["level"], line["event"], line["reason"]) == (
        "error",
        "provider_credentials_refused",
        "InvalidProviderToken",
    )


async def test_one_push_a_minute_asks_again(standing: CredentialBreaker, provider: Provider, clock: Clock) -> None:
    provider.says = DENIED
    await standing.send(letter("apns"))
    clock.now += PROBE_SECONDS - 10
    assert (await standing.send(letter("apns"))).after == pytest.approx(10)
    clock.now += 10
    for _ in range(20):
        await standing.send(letter("apns"))
    assert provider.asked == 2


async def test_a_probe_that_is_answered_opens_the_door_again(
    standing: CredentialBreaker, provider: Provider, clock: Clock, told: list[bool], capfd: pytest.CaptureFixture[str]
) -> None:
    provider.says = DENIED
    await standing.send(letter("apns"))
    clock.now += PROBE_SECONDS
    provider.says = Outcome("gone", "Unregistered")
    assert await standing.send(letter("apns")) == Outcome("gone", "Unregistered")
    provider.says = Outcome("delivered")
    assert [await standing.send(letter("apns")) for _ in range(3)] == [Outcome("delivered")] * 3
    assert told == [False, True, False]
    assert "provider_credentials_accepted" in capfd.readouterr().out


async def test_a_provider_that_is_away_has_not_forgiven(
    standing: CredentialBreaker, provider: Provider, clock: Clock, told: list[bool]
) -> None:
    provider.says = DENIED
    await standing.send(letter("apns"))
    clock.now += PROBE_SECONDS
    provider.says = Outcome("retry", "unreachable")
    await standing.send(letter("apns"))
    assert (await standing.send(letter("apns"))).error == "credentials_refused"
    assert told == [False, True]


async def test_what_is_decided_without_asking_says_nothing_and_is_no_probe(
    standing: CredentialBreaker, provider: Provider, clock: Clock, told: list[bool], capfd: pytest.CaptureFixture[str]
) -> None:
    """A device with a malformed token would else open the door once a minute, and take the probe from the others."""
    provider.says = DENIED
    await standing.send(letter("apns"))
    clock.now += PROBE_SECONDS
    for kind in ("gone", "refused"):
        provider.says = Outcome(kind, "by ourselves", local=True)
        assert await standing.send(letter("apns")) == provider.says
    assert told == [False, True]
    assert "provider_credentials_accepted" not in capfd.readouterr().out
    provider.says = DENIED
    assert (await standing.send(letter("apns"))).error == "credentials_refused"
    assert provider.asked == 4
    assert (await standing.send(letter("apns"))).error == "credentials_refused"
    assert provider.asked == 4
