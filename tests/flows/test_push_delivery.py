"""Server, relay and devices together: every challenge reaches its device, although the relay or its database fails."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass

import httpx
import pytest

from tests.flows.backend import ACTION
from tests.flows.websocket_devices import WebSocketDevices
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
async def listening_devices(stack: Stack, devices: int) -> AsyncIterator[tuple[WebSocketDevices, httpx.AsyncClient]]:
    client = stack.server.async_client(limits=httpx.Limits(max_connections=40))
    async with client, WebSocketDevices(stack.relay, devices, client) as listening_devices:
        yield listening_devices, client


async def create_challenges(listening_devices: WebSocketDevices, client: httpx.AsyncClient, count: int) -> list[str]:
    """Creates challenges for all devices in turn, 20 at a time; their ids."""
    gate = asyncio.Semaphore(20)

    async def one(number: int) -> str:
        device = listening_devices.devices[number % len(listening_devices.devices)]
        async with gate:
            answer = await client.post("/challenge", json={"device_public_key": device.wire_key, "action": ACTION})
        assert answer.status_code == 201, answer.text
        challenge_id: str = answer.json()["challenge_id"]
        return challenge_id

    return list(await asyncio.gather(*(one(number) for number in range(count))))


async def wait_until_verified(
    listening_devices: WebSocketDevices, client: httpx.AsyncClient, challenge_ids: list[str]
) -> None:
    async with asyncio.timeout(2 * DEADLINE):
        while not set(challenge_ids) <= set(listening_devices.answers):
            await asyncio.sleep(0.05)
    assert {listening_devices.answers[challenge_id] for challenge_id in challenge_ids} <= {200, 409}
    for challenge_id in challenge_ids[::17]:
        status = (await client.get(f"/v1/auth/challenge/{challenge_id}/status")).json()
        assert status["status"] == "verified"


def arrivals_of(listening_devices: WebSocketDevices, challenge_ids: list[str]) -> dict[str, list[int]]:
    """For each challenge the number of arrivals of each of its push_ids."""
    found: dict[str, list[int]] = {challenge_id: [] for challenge_id in challenge_ids}
    for (challenge_id, _), count in listening_devices.seen.items():
        found[challenge_id].append(count)
    return found


async def test_two_thousand_challenges_reach_three_hundred_devices_exactly_once(on_postgres: Stack) -> None:
    async with listening_devices(on_postgres, 300) as (devices, client):
        challenge_ids = await create_challenges(devices, client, 2000)
        await wait_until_verified(devices, client, challenge_ids)
        assert set(map(tuple, arrivals_of(devices, challenge_ids).values())) == {(1,)}
        assert set(devices.answers.values()) == {200}


async def test_with_sqlite_and_one_relay_worker_challenges_arrive_exactly_once(on_sqlite: Stack) -> None:
    async with listening_devices(on_sqlite, 50) as (devices, client):
        challenge_ids = await create_challenges(devices, client, 400)
        await wait_until_verified(devices, client, challenge_ids)
        assert set(map(tuple, arrivals_of(devices, challenge_ids).values())) == {(1,)}


async def test_a_restart_of_postgresql_loses_no_challenge(on_postgres: Stack, postgres: PostgresServer) -> None:
    async with listening_devices(on_postgres, 50) as (devices, client):
        challenge_ids = await create_challenges(devices, client, 100)
        await asyncio.to_thread(postgres.stop)
        challenge_ids += await create_challenges(devices, client, 100)
        # Not in a thread: the database process ends with the thread that started it.
        postgres.start()
        challenge_ids += await create_challenges(devices, client, 100)
        await wait_until_verified(devices, client, challenge_ids)
        # One push_id each; the same push may have arrived twice.
        assert {len(counts) for counts in arrivals_of(devices, challenge_ids).values()} == {1}


@pytest.mark.parametrize("database", ["on_postgres", "on_sqlite"])
async def test_a_killed_relay_loses_no_challenge(database: str, request: pytest.FixtureRequest) -> None:
    stack: Stack = request.getfixturevalue(database)
    async with listening_devices(stack, 30) as (devices, client):
        challenge_ids = await create_challenges(devices, client, 60)
        await asyncio.to_thread(stack.relay.kill)
        challenge_ids += await create_challenges(devices, client, 60)
        await asyncio.to_thread(stack.relay.start)
        challenge_ids += await create_challenges(devices, client, 60)
        await wait_until_verified(devices, client, challenge_ids)
        assert {len(counts) for counts in arrivals_of(devices, challenge_ids).values()} == {1}
