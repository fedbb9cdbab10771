"""Trimming of registrations, on both databases: what may be deleted, how much, and whether new ones have a place."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from relay.registry.model import Device, NewPush, Trimmed
from relay.registry.port import Registry
from relay.registry.postgres.registry import PostgresRegistry
from relay.registry.rules import Rate
from relay.registry.sqlite.registry import SqliteRegistry
from tests.support.live import DEADLINE
from tests.support.postgres import PostgresServer

pytest_plugins = ["tests.support.postgres_fixtures"]

# So that all workers have counted before the first has deleted.
_SLOW_DELETE = """
CREATE FUNCTION pause() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.3); RETURN NULL; END $$;
CREATE TRIGGER slow BEFORE DELETE ON device FOR EACH STATEMENT EXECUTE FUNCTION pause();
"""
NOW = 1_800_000_000
SERVER = bytes(32)


@pytest.fixture(params=["sqlite", "postgres"])
async def registry(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Registry]:
    registry: Registry = SqliteRegistry(tmp_path / "relay.db")
    if request.param == "postgres":
        server: PostgresServer = request.getfixturevalue("postgres")
        registry = PostgresRegistry(server.new_database(), startup_timeout=DEADLINE, command_timeout=DEADLINE)
    await registry.open(lambda channel, data: None)
    yield registry
    await registry.close()


def fingerprint(number: int) -> bytes:
    return number.to_bytes(32)


async def register(registry: Registry, numbers: range, *, used: bool = False) -> None:
    for number in numbers:
        seen_at = NOW + number
        await registry.register(Device(fingerprint(number), b"key", "websocket", b"", seen_at, seen_at=seen_at))
    if used:
        pushes = [NewPush(bytes(16), str(number), fingerprint(number), b"", NOW * 2) for number in numbers]
        await registry.admit(SERVER, pushes, NOW, Rate(0))


async def test_at_the_total_unused_registrations_are_replaced_and_keep_no_new_device_out(registry: Registry) -> None:
    """Fewer unused ones than may be: without a place for others they would stay for as long as their clients like."""
    await register(registry, range(8), used=True)
    await register(registry, range(8, 10))
    assert await registry.trim(10, 3) == Trimmed([], 10, replaceable=True)
    await register(registry, range(10, 11))
    assert await registry.trim(10, 3) == Trimmed([fingerprint(8)], 10, replaceable=True), "the oldest"
    assert await registry.device(fingerprint(8)) is None
    assert await registry.device(fingerprint(10)) is not None


async def test_at_the_total_evicted_registrations_are_replaced(registry: Registry) -> None:
    await register(registry, range(10), used=True)
    assert await registry.trim(10, 3) == Trimmed([], 10, replaceable=False)
    await registry.evict(fingerprint(4), "gone", b"", NOW)
    assert await registry.trim(10, 3) == Trimmed([], 10, replaceable=True)
    await register(registry, range(10, 11))
    assert await registry.trim(10, 3) == Trimmed([fingerprint(4)], 10, replaceable=True)
    assert await registry.device(fingerprint(4)) is None


async def test_a_registration_in_use_is_never_deleted(registry: Registry) -> None:
    await register(registry, range(12), used=True)
    assert await registry.trim(10, 1) == Trimmed([], 12, replaceable=False)


async def test_workers_that_trim_at_once_delete_the_excess_once(registry: Registry) -> None:
    await register(registry, range(60))
    if isinstance(registry, PostgresRegistry):
        await registry._pool.use(lambda connection: connection.execute(_SLOW_DELETE))
    trimmed = await asyncio.gather(*(registry.trim(100, 40) for _ in range(6)))
    assert sum(len(one.deleted) for one in trimmed) == 20
    assert (await registry.trim(100, 40)).total == 40
