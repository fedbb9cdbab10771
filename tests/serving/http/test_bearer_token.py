"""A token that opens something, and those who guess it, with a clock that is moved."""

from __future__ import annotations

from typing import Any

import falcon.asgi
import falcon.testing
import pytest
from falcon.asgi import Request, Response

from sigil.serving.http import responses
from sigil.serving.http.asgi_edge import Edge
from sigil.serving.http.bearer_token import BearerTokenGuard, guesses_of, metrics_guard
from sigil.serving.http.body_admission import BodyAdmission
from sigil.serving.http.client_address import ClientAddresses
from sigil.serving.settings import Secret
from tests.support.services import Clock

TOKEN = "a-token-of-these-tests"


class Behind:
    def __init__(self, door: BearerTokenGuard) -> None:
        self._door = door

    async def on_get(self, req: Request, resp: Response) -> None:
        self._door.check(req)


def app(clock: Clock, token: str | None = TOKEN) -> Any:
    addresses = ClientAddresses()
    door = metrics_guard(Secret(token) if token else None, guesses_of(addresses, workers=16, clock=clock))
    inner: Any = falcon.asgi.App()
    responses.handle_errors(inner, lambda problem: None)
    inner.add_route("/", Behind(door))
    return Edge(inner, BodyAdmission(), addresses)


async def status(served: Any, given: str | None) -> int:
    async with falcon.testing.ASGIConductor(served) as conductor:
        headers = {} if given is None else {"Authorization": given}
        return int((await conductor.simulate_get("/", headers=headers)).status_code)


@pytest.mark.parametrize("given", [f"Bearer {TOKEN}", f"bearer {TOKEN}"])
async def test_the_token_opens_it(given: str) -> None:
    assert await status(app(Clock()), given) == 200


@pytest.mark.parametrize("given", [None, "Bearer", "Bearer ", f"Basic {TOKEN}", TOKEN])
async def test_who_brings_none_has_not_guessed_however_often(given: str | None) -> None:
    served = app(Clock())
    assert {await status(served, given) for _ in range(30)} == {401}
    assert await status(served, f"Bearer {TOKEN}") == 200


@pytest.mark.parametrize("wrong", ["x", f"{TOKEN}x", TOKEN[:-1], TOKEN.upper()])
async def test_after_ten_guesses_nobody_is_heard_from_there_for_a_while(wrong: str) -> None:
    clock = Clock()
    served = app(clock)
    assert [await status(served, f"Bearer {wrong}") for _ in range(10)] == [401] * 10
    assert await status(served, f"Bearer {TOKEN}") == 429
    clock.now += 120
    assert await status(served, f"Bearer {TOKEN}") == 200


async def test_without_a_token_it_is_open() -> None:
    assert await status(app(Clock(), None), None) == 200
