"""Access tokens: one request for all callers, sent before the token expires."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from relay.credentials import FcmCredentials, service_account
from relay.transports.access_tokens import AccessToken, AccessTokens, TokenRejected, TokenUnavailable
from tests.support.providers import Providers
from tests.support.services import Clock


class Google:
    """Issues numbered tokens that live 1000 s, or raises `fault`. Responses wait while `released` is not set."""

    def __init__(self) -> None:
        self.requests = 0
        self.fault: Exception | None = None
        self.released = asyncio.Event()
        self.released.set()

    async def fetch(self, assertion: str) -> AccessToken:
        self.requests += 1
        await self.released.wait()
        if self.fault is not None:
            raise self.fault
        return AccessToken(f"token {self.requests}", 1000)


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


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0)


async def test_concurrent_callers_share_one_request(tokens: AccessTokens, google: Google) -> None:
    assert set(await asyncio.gather(*(tokens.current() for _ in range(100)))) == {"token 1"}
    assert google.requests == 1


async def test_a_token_is_renewed_at_four_fifths_of_its_lifetime_and_used_meanwhile(
    tokens: AccessTokens, google: Google, clock: Clock
) -> None:
    assert await tokens.current() == "token 1"
    clock.now += 799
    assert await tokens.current() == "token 1"
    assert google.requests == 1
    clock.now += 1
    google.released.clear()
    assert await tokens.current() == "token 1"
    await until(lambda: google.requests == 2)
    assert await tokens.current() == "token 1"
    google.released.set()
    await until(lambda: tokens._token == "token 2")
    assert await tokens.current() == "token 2"
    assert google.requests == 2


async def test_after_a_failed_renewal_the_token_is_used_until_it_expires(
    tokens: AccessTokens, google: Google, clock: Clock
) -> None:
    await tokens.current()
    clock.now += 900
    google.fault = TokenUnavailable("unreachable")
    assert await tokens.current() == "token 1"
    await until(lambda: google.requests == 2 and tokens._fetching is None)
    assert await tokens.current() == "token 1"
    clock.now += 100
    with pytest.raises(TokenUnavailable):
        await tokens.current()
    google.fault = None
    clock.now += 2
    assert await tokens.current() == "token 4"


async def test_an_unreachable_token_endpoint_is_logged_once_and_so_is_its_return(
    tokens: AccessTokens, google: Google, clock: Clock, capfd: pytest.CaptureFixture[str]
) -> None:
    google.fault = TokenUnavailable("unreachable (ConnectError)")
    for _ in range(3):
        with pytest.raises(TokenUnavailable):
            await tokens.current()
        clock.now += 3
    google.fault = None
    await tokens.current()
    lines = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert [(line["event"], line.get("reason")) for line in lines] == [
        ("provider_unreachable", "no access token: unreachable (ConnectError)"),
        ("provider_reachable", None),
    ]


async def test_after_a_failure_there_is_a_pause_before_the_next_request(
    tokens: AccessTokens, google: Google, clock: Clock
) -> None:
    google.fault = TokenRejected("invalid_grant")
    for _ in range(20):
        with pytest.raises(TokenRejected):
            await tokens.current()
    assert google.requests == 1
    clock.now += 2
    google.fault = None
    assert await tokens.current() == "token 2"


async def test_a_cancelled_caller_does_not_cancel_the_request_of_the_others(
    tokens: AccessTokens, google: Google
) -> None:
    google.released.clear()
    callers = [asyncio.create_task(tokens.current()) for _ in range(3)]
    await until(lambda: google.requests == 1)
    callers[0].cancel()
    await asyncio.wait([callers[0]])
    google.released.set()
    assert await asyncio.gather(*callers[1:]) == ["token 1", "token 1"]


async def test_only_the_rejected_token_is_invalidated(tokens: AccessTokens, google: Google) -> None:
    assert await tokens.current() == "token 1"
    tokens.invalidate("an older token")
    assert await tokens.current() == "token 1"
    tokens.invalidate("token 1")
    assert await tokens.current() == "token 2"


async def test_closing_cancels_a_request_in_flight(tokens: AccessTokens, google: Google) -> None:
    google.released.clear()
    callers = asyncio.create_task(tokens.current())
    await until(lambda: google.requests == 1)
    await tokens.close()
    with pytest.raises(asyncio.CancelledError):
        await callers
