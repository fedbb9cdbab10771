"""A flood's responses: what the server may answer to it."""

from __future__ import annotations

import ssl

from loadtest.soak.floods import Floods
from loadtest.soak.schedule import KINDS


async def _no_subject() -> str:
    return ""


def floods() -> Floods:
    return Floods("https://127.0.0.1:1", "ws://127.0.0.1:1/ws", ssl.create_default_context(), "key", _no_subject)


async def test_every_planned_flood_exists_and_ends_when_the_server_refuses_connections() -> None:
    one = floods()
    for kind in KINDS["flood"]:
        await one.run(kind, 0.1)
    assert one.opened == 0


def test_success_with_a_wrong_key_and_an_internal_error_are_unexpected() -> None:
    one = floods()
    one.statuses.update({"wrong key 401": 9, "wrong key 201": 1, "large body 413": 2, "large body 500": 3})
    assert one.unexpected() == {"wrong key 201": 1, "large body 500": 3}
