"""Server, relay and devices together: every challenge reaches its device, whatever fails in between."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass

import httpx
import pytest

from tests.flows.fleet import Fleet
from tests.flows.people import ACTION
from tests.support.live import DEADLINE, LiveServer
from tests.support.live_relay import LiveRelay
from tests.support.postgres import PostgresServer

pytest_plugins = ["tests.support.postgres_fixtures"]

UNLIMITED = {"SIGIL_DEVICE_RATE": "off", "SIGIL_RATE_LIMIT": "off", "SIGIL_MAX_PENDING_PER_DEVICE": "100"}
KEY = "an-encryption-key-of-more-than-32-characters"


@dataclass
class Stack:
    """A server of two workers and its relay."""

    server: LiveServer
    relay: LiveRelay


@pytest.fixture
def on_postgres(postgres: PostgresServer) -> Iterator[Stack]:
    settings = {"DATABASE_URL": postgres.new_database(), "TOKEN_ENCRYPTION_KEY": KEY, "RELAY_WORKERS": "2"}
    with ExitStack() as stack:
        relay = stack.enter_context(LiveRelay(RELAY_PUSH_RATE="off", **settings))
        yield Stack(stack.enter_context(LiveServer(workers=2, RELAY_URL=relay.url, **UNLIMITED)), relay)


@pytest.fixture
def on_sqlite() -> Iterator[Stack]:
    with LiveRelay(RELAY_PUSH_RATE="off") as relay, LiveServer(workers=2, RELAY_URL=relay.url, **UNLIMITED) as server:
        yield Stack(server, relay)


@asynccontextmanager
async def fleet(stack: Stack, devices: int) -> AsyncIterator[tuple[Fleet, httpx.AsyncClient]]:
    client = stack.server.async_client(limits=httpx.Limits(max_connections=40))
    async with client, Fleet(stack.relay, devices, client) as fleet:
        yield fleet, client


async def ask(fleet: Fleet, client: httpx.AsyncClient, count: int) -> list[str]:
    """Challenges for all devices in turn, some at a time; their ids."""
    gate = asyncio.Semaphore(20)

    async def one(number: int) -> str:
        device = fleet.devices[number % len(fleet.devices)]
        async with gate:
            answer = await client.post("/challenge", json={"device_public_key": device.wire_key, "action": ACTION})
        assert answer.status_code == 201, answer.text
        challenge_id: str = answer.json()["challenge_id"]
        return challenge_id

    return list(await asyncio.gather(*(one(number) for number in range(count))))


async def all_verified(fleet: Fleet, client: httpx.AsyncClient, asked: list[str]) -> None:
    async with asyncio.timeout(2 * DEADLINE):
        while not set(asked) <= set(fleet.answers):
            await asyncio.sleep(0.05)
    assert {fleet.answers[challenge_id] for challenge_id in asked} <= {200, 409}
    for challenge_id in asked[::17]:
        status = (await client.get(f"/v1/auth/challenge/{challenge_id}/status")).json()
        assert status["status"] == "verified"


def arrivals(fleet: Fleet, asked: list[str]) -> dict[str, list[int]]:
    """How often each challenge came, by push_id."""
    found: dict[str, list[int]] = {challenge_id: [] for challenge_id in asked}
    for (challenge_id, _), count in fleet.seen.items():
        found[challenge_id].append(count)
    return found


async def test_two_thousand_challenges_reach_three_hundred_devices_exactly_once(on_postgres: Stack) -> None:
    async with fleet(on_postgres, 300) as (devices, client):
        asked = await ask(devices, client, 2000)
        await all_verified(devices, client, asked)
        assert set(map(tuple, arrivals(devices, asked).values())) == {(1,)}
        assert set(devices.answers.values()) == {200}


async def test_on_sqlite_with_one_worker_too(on_sqlite: Stack) -> None:
    async with fleet(on_sqlite, 50) as (devices, client):
        asked = await ask(devices, client, 400)
        await all_verified(devices, client, asked)
        assert set(map(tuple, arrivals(devices, asked).values())) == {(1,)}


async def test_a_restart_of_postgresql_in_the_middle_loses_nothing(
    on_postgres: Stack, postgres: PostgresServer
) -> None:
    async with fleet(on_postgres, 50) as (devices, client):
        asked = await ask(devices, client, 100)
        await asyncio.to_thread(postgres.stop)
        asked += await ask(devices, client, 100)
        # Not in a thread: the database ends with the thread that started it.
        postgres.start()
        asked += await ask(devices, client, 100)
        await all_verified(devices, client, asked)
        # One push_id each, whatever came twice.
        assert {len(counts) for counts in arrivals(devices, asked).values()} == {1}


@pytest.mark.parametrize("database", ["on_postgres", "on_sqlite"])
async def test_a_killed_relay_loses_nothing(database: str, request: pytest.FixtureRequest) -> None:
    stack: Stack = request.getfixturevalue(database)
    async with fleet(stack, 30) as (devices, client):
        asked = await ask(devices, client, 60)
        await asyncio.to_thread(stack.relay.kill)
        asked += await ask(devices, client, 60)
        await asyncio.to_thread(stack.relay.start)
        asked += await ask(devices, client, 60)
        await all_verified(devices, client, asked)
        assert {len(counts) for counts in arrivals(devices, asked).values()} == {1}
