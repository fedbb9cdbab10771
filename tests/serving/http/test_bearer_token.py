"""The guard of a bearer token and its limit of guesses, with a clock that the test moves."""

from __future__ import annotations

from typing import Any

import falcon.asgi
import falcon.testing
import pytest
from falcon.asgi import Request, Response

from sigil.serving.http import responses
from sigil.serving.http.asgi_edge import AsgiEdge
from sigil.serving.http.bearer_token import BearerTokenGuard, equals, guess_limit
from sigil.serving.http.body_admission import BodyAdmission
from sigil.serving.http.client_address import ClientAddresses
from tests.support.services import Clock

TOKEN = "a-token-of-these-tests"


class Guarded:
    def __init__(self, guard: BearerTokenGuard) -> None:
        self._guard = guard

    async def on_get(self, req: Request, resp: Response) -> None:
        self._guard.check(req)


def app_with(clock: Clock) -> Any:
    addresses = ClientAddresses()
    guard = BearerTokenGuard(equals(TOKEN), guess_limit(addresses, workers=16, clock=clock), "Send the token.")
    inner: Any = falcon.asgi.App()
    responses.handle_errors(inner, lambda problem: None)
    inner.add_route("/", Guarded(guard))
    return AsgiEdge(inner, BodyAdmission(), addresses)


async def status(app: Any, authorization: str | None) -> int:
    async with falcon.testing.ASGIConductor(app) as conductor:
        headers = {} if authorization is None else {"Authorization": authorization}
        return int((await conductor.simulate_get("/", headers=headers)).status_code)


@pytest.mark.parametrize("authorization", [f"Bearer {TOKEN}", f"bearer {TOKEN}"])
async def test_the_right_token_is_accepted(authorization: str) -> None:
    assert await status(app_with(Clock()), authorization) == 200


@pytest.mark.parametrize("authorization", [None, "Bearer", "Bearer ", f"Basic {TOKEN}", TOKEN])
async def test_a_request_without_a_token_is_not_a_guess(authorization: str | None) -> None:
    served = app_with(Clock())
    assert {await status(served, authorization) for _ in range(30)} == {401}
    assert await status(served, f"Bearer {TOKEN}") == 200


@pytest.mark.parametrize("wrong", ["x", f"{TOKEN}x", TOKEN[:-1], TOKEN.upper()])
async def test_after_ten_guesses_the_address_is_limited_for_a_while(wrong: str) -> None:
    clock = Clock()
    served = app_with(clock)
    assert [await status(served, f"Bearer {wrong}") for _ in range(10)] == [401] * 10
    assert await status(served, f"Bearer {TOKEN}") == 429
    clock.now += 120
    assert await status(served, f"Bearer {TOKEN}") == 200
