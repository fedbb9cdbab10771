"""Access tokens: one request for all callers, made before it is needed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from relay.credentials import FcmCredentials, service_account
from relay.transports.access_tokens import AccessToken, AccessTokens, TokenRefused, TokenUnavailable
from tests.support.providers import Providers
from tests.support.services import Clock


class Google:
    """Gives out numbered tokens that live 1000 s; `fault` instead, and `go` lets answers wait."""

    def __init__(self) -> None:
        self.asked = 0
        self.fault: Exception | None = None
        self.go = asyncio.Event()
        self.go.set()

    async def fetch(self, assertion: str) -> AccessToken:
        self.asked += 1
        await self.go.wait()
        if self.fault is not None:
            raise self.fault
        return AccessToken(f"token {self.asked}", 1000)


@pytest.fixture
def account(providers: Providers) -> FcmCredentials:
    return service_account(Path(providers.env["FCM_SERVICE_ACCOUNT"]).read_text())


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def google() -> Google:
    return Google()


@pytest.fixture
def tokens(account: FcmCredentials, google: Google, clock: Clock) -> AccessTokens:
    return AccessTokens(account, google.fetch, clock)


async def turns(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0)


async def test_many_who_ask_at_once_wait_for_one_request(tokens: AccessTokens, google: Google) -> None:
    assert set(await asyncio.gather(*(tokens.current() for _ in range(100)))) == {"token 1"}
    assert google.asked == 1


async def test_a_token_is_renewed_at_four_fifths_of_its_life_and_used_meanwhile(
    tokens: AccessTokens, google: Google, clock: Clock
) -> None:
    assert await tokens.current() == "token 1"
    clock.now += 799
    assert await tokens.current() == "token 1"
    assert google.asked == 1
    clock.now += 1
    google.go.clear()
    assert await tokens.current() == "token 1"
    await turns(lambda: google.asked == 2)
    assert await tokens.current() == "token 1"
    google.go.set()
    await turns(lambda: tokens._token == "token 2")
    assert await tokens.current() == "token 2"
    assert google.asked == 2


async def test_a_renewal_that_fails_leaves_the_token_for_as_long_as_it_lives(
    tokens: AccessTokens, google: Google, clock: Clock
) -> None:
    await tokens.current()
    clock.now += 900
    google.fault = TokenUnavailable("away")
    assert await tokens.current() == "token 1"
    await turns(lambda: google.asked == 2 and tokens._fetching is None)
    assert await tokens.current() == "token 1"
    clock.now += 100
    with pytest.raises(TokenUnavailable):
        await tokens.current()
    google.fault = None
    clock.now += 2
    assert await tokens.current() == "token 4"


async def test_after_a_failure_google_is_left_alone_for_a_moment(
    tokens: AccessTokens, google: Google, clock: Clock
) -> None:
    google.fault = TokenRefused("invalid_grant")
    for _ in range(20):
        with pytest.raises(TokenRefused):
            await tokens.current()
    assert google.asked == 1
    clock.now += 2
    google.fault = None
    assert await tokens.current() == "token 2"


async def test_who_is_cancelled_does_not_cancel_the_request_of_the_others(tokens: AccessTokens, google: Google) -> None:
    google.go.clear()
    asking = [asyncio.create_task(tokens.current()) for _ in range(3)]
    await turns(lambda: google.asked == 1)
    asking[0].cancel()
    await asyncio.wait([asking[0]])
    google.go.set()
    assert await asyncio.gather(*asking[1:]) == ["token 1", "token 1"]


async def test_only_the_token_that_was_refused_is_forgotten(tokens: AccessTokens, google: Google) -> None:
    assert await tokens.current() == "token 1"
    tokens.refused("an older one")
    assert await tokens.current() == "token 1"
    tokens.refused("token 1")
    assert await tokens.current() == "token 2"


async def test_closing_ends_a_request_that_is_under_way(tokens: AccessTokens, google: Google) -> None:
    google.go.clear()
    asking = asyncio.create_task(tokens.current())
    await turns(lambda: google.asked == 1)
    await tokens.close()
    with pytest.raises(asyncio.CancelledError):
        await asking
