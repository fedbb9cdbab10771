"""Eviction of silent tokens: silence counts while a relay was up, and a large share is not evicted at once."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from relay.registration.silence import ALWAYS_EVICTED, SILENT_DAYS, Silence
from relay.registry.model import Device
from relay.registry.port import Registry
from relay.registry.postgres.registry import PostgresRegistry
from relay.registry.rules import silent_before
from relay.registry.sqlite.registry import SqliteRegistry
from sigil.serving.boot_clock import boot_seconds
from tests.support.live import DEADLINE
from tests.support.services import START, Clock

pytest_plugins = ["tests.support.postgres_fixtures"]

DAY, MINUTE = 86_400, 60


@pytest.fixture(params=["sqlite", "postgres"])
async def registry(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Registry]:
    opened: Registry
    if request.param == "sqlite":
        opened = SqliteRegistry(tmp_path / "relay.db", timeout=DEADLINE)
    else:
        dsn = request.getfixturevalue("postgres").new_database()
        opened = PostgresRegistry(dsn, acquire_timeout=DEADLINE, command_timeout=DEADLINE)
    await opened.open(lambda channel, data: None)
    yield opened
    await opened.close()


class Relay:
    """One relay on the registry. Its database has no clock, unless `database_time` is set."""

    def __init__(self, registry: Registry, clock: Clock | None = None) -> None:
        self.registry, self.clock = registry, clock or Clock()
        self.database_time: float | None = None
        self.evicted: list[int] = []
        self.start()

    def start(self) -> None:
        self._silence = Silence(_OwnClock(self), self.clock, self.evicted.append, boot=self.clock.boot)

    async def up(self, days: int, minutes_a_day: int = 1440) -> None:
        """As if it had been up for so long, without a call for each minute."""
        for _ in range(days):
            await self.beat()
            await presence_of(self.registry, int(self.clock()) // DAY, minutes_a_day)
            self.clock.now += DAY

    async def beat(self) -> None:
        await self._silence.beat()

    async def sweep(self) -> None:
        await self._silence.beat()
        await self._silence.sweep()


class _OwnClock:
    """The registry, whose database has the clock that the test sets."""

    def __init__(self, relay: Relay) -> None:
        self._relay = relay

    def __getattr__(self, name: str) -> Any:
        return getattr(self._relay.registry, name)

    async def beat(self, now: float) -> Any:
        beat = await self._relay.registry.beat(now)
        return beat._replace(database_time=self._relay.database_time)


async def presence_of(registry: Registry, day: int, minutes: int) -> None:
    if isinstance(registry, PostgresRegistry):
        await registry._pool.use(
            lambda con: con.execute("UPDATE presence SET minutes = $2 WHERE day = $1", day, minutes)
        )
    else:
        assert isinstance(registry, SqliteRegistry)
        await registry._file.transact(
            lambda db: db.execute("UPDATE presence SET minutes = ? WHERE day = ?", (minutes, day))
        )


async def presence_rows(registry: Registry) -> list[int]:
    query = "SELECT minutes FROM presence ORDER BY day"
    if isinstance(registry, PostgresRegistry):
        return [row[0] for row in await registry._pool.use(lambda con: con.fetch(query))]
    assert isinstance(registry, SqliteRegistry)
    return [row[0] for row in await registry._file.transact(lambda db: db.execute(query).fetchall())]


async def register(registry: Registry, *names: str, at: float) -> None:
    for name in names:
        fingerprint = hashlib.sha256(name.encode()).digest()
        await registry.register(Device(fingerprint, b"key", "apns", b"token", int(at), seen_at=int(at)))


async def live(registry: Registry) -> int:
    return (await registry.count_devices()).get("apns", 0)


@pytest.fixture
def relay(registry: Registry) -> Relay:
    return Relay(registry)


def events(capfd: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capfd.readouterr().out.splitlines()]


async def test_a_device_that_was_silent_for_ninety_days_of_presence_loses_its_token(
    relay: Relay, capfd: pytest.CaptureFixture[str]
) -> None:
    await register(relay.registry, "silent", at=relay.clock())
    await relay.up(SILENT_DAYS)
    await register(relay.registry, "heard", at=relay.clock())
    await relay.sweep()
    assert await live(relay.registry) == 2, "the last of the ninety days is not over"
    await relay.up(2)
    await relay.sweep()
    assert (await live(relay.registry), sum(relay.evicted)) == (1, 1)
    assert ("silent_tokens_evicted", 1) in [(line["event"], line.get("count")) for line in events(capfd)]


async def test_a_relay_that_was_off_for_months_evicts_no_token_and_says_so(
    relay: Relay, capfd: pytest.CaptureFixture[str]
) -> None:
    await relay.up(60)
    await register(relay.registry, *"abc", at=relay.clock())
    relay.clock.now += 91 * DAY
    relay.start()
    await relay.sweep()
    await relay.up(29)
    await relay.sweep()
    assert (await live(relay.registry), sum(relay.evicted)) == (3, 0)
    (absent,) = [line for line in events(capfd) if line["event"] == "relay_was_absent"]
    assert absent["seconds"] == pytest.approx(92 * DAY, abs=DAY)


async def test_a_relay_that_is_up_for_an_hour_a_day_counts_hours(relay: Relay) -> None:
    await register(relay.registry, "a", at=relay.clock())
    await relay.up(200, minutes_a_day=60)
    await relay.sweep()
    assert await live(relay.registry) == 1


@pytest.mark.parametrize("years", [30, -30])
async def test_one_start_with_a_clock_far_off_evicts_no_token(relay: Relay, years: int) -> None:
    await relay.up(100)
    await register(relay.registry, *"abc", at=relay.clock())
    relay.clock.step(years * 365 * DAY)
    relay.start()
    for _ in range(5):
        await relay.sweep()
        relay.clock.now += MINUTE
    await relay.up(2)
    relay.clock.step(-years * 365 * DAY)
    relay.start()
    await relay.sweep()
    await relay.up(2)
    await relay.sweep()
    assert (await live(relay.registry), sum(relay.evicted)) == (3, 0)


async def test_a_sweep_that_would_evict_a_large_share_evicts_none_and_says_so(
    relay: Relay, capfd: pytest.CaptureFixture[str]
) -> None:
    silent = ALWAYS_EVICTED + 1
    await register(relay.registry, *(str(number) for number in range(silent)), at=relay.clock())
    await relay.up(SILENT_DAYS + 2)
    await relay.sweep()
    assert await live(relay.registry) == silent
    (stopped,) = [line for line in events(capfd) if line["event"] == "silent_evictions_stopped"]
    assert (stopped["level"], stopped["more_than"], stopped["registrations"]) == ("error", ALWAYS_EVICTED, silent)
    assert "sigil-relay devices prune" in stopped["message"]
    await relay.sweep()
    assert events(capfd) == [], "it is reported once a day"


async def test_fewer_than_that_are_evicted_in_any_case(relay: Relay) -> None:
    await register(relay.registry, *(str(number) for number in range(ALWAYS_EVICTED)), at=relay.clock())
    await relay.up(SILENT_DAYS + 2)
    await relay.sweep()
    assert (await live(relay.registry), sum(relay.evicted)) == (0, ALWAYS_EVICTED)


async def test_several_relays_count_a_minute_once_and_sweep_once_a_day(registry: Registry) -> None:
    clock = Clock()
    relays = [Relay(registry, clock) for _ in range(3)]
    for _ in range(4):
        for one in relays:
            await one.beat()
        clock.now += MINUTE
    assert await registry.silent_before(1) is None
    assert [await registry.claim_sweep(clock()) for _ in range(3)] == [True, False, False]
    for one in relays:
        await one.beat()
    clock.now += DAY
    await relays[0].beat()
    assert await registry.claim_sweep(clock())
    assert await presence_rows(registry) == [5, 1]


async def test_a_clock_that_is_not_that_of_the_database_is_logged_once_and_stops_the_sweep(
    relay: Relay, capfd: pytest.CaptureFixture[str]
) -> None:
    await register(relay.registry, "silent", at=relay.clock())
    await relay.up(SILENT_DAYS + 2)
    relay.database_time = relay.clock() - 3600
    for _ in range(3):
        await relay.sweep()
    assert await live(relay.registry) == 1
    (line,) = [line for line in events(capfd) if line["event"] == "clock_differs"]
    assert line["seconds"] == 3600
    relay.database_time = relay.clock()
    await relay.sweep()
    assert await live(relay.registry) == 0


async def test_a_clock_before_the_last_run_is_logged(relay: Relay, capfd: pytest.CaptureFixture[str]) -> None:
    await relay.up(3)
    relay.clock.step(-10 * DAY)
    relay.start()
    await relay.sweep()
    (line,) = [line for line in events(capfd) if line["event"] == "clock_differs"]
    assert line["seconds"] == pytest.approx(-9 * DAY, abs=DAY)


async def test_a_clock_that_was_ahead_once_ends_evictions_for_a_day_only(relay: Relay) -> None:
    """Of a database without a clock. Such a start left reports of years to come."""
    await register(relay.registry, "silent", at=relay.clock())
    await relay.up(SILENT_DAYS + 2)
    relay.clock.step(30 * 365 * DAY)
    relay.start()
    await relay.beat()
    relay.clock.step(-30 * 365 * DAY)
    relay.start()
    await relay.sweep()
    relay.clock.now += DAY - MINUTE
    await relay.sweep()
    assert await live(relay.registry) == 1, "a clock that is years behind would look the same"
    relay.clock.now += MINUTE
    await relay.beat()
    await relay.sweep()
    assert (await live(relay.registry), sum(relay.evicted)) == (0, 1)


async def test_a_clock_is_not_believed_within_a_day_of_a_step(relay: Relay) -> None:
    await relay.up(2)
    former = relay.clock()
    relay.clock.step(-10 * DAY)
    relay.start()
    for _ in range(5):
        await relay.beat()
        relay.clock.now += DAY - MINUTE
        relay.clock.step(-DAY)
    beat = await relay.registry.beat(relay.clock())
    assert beat.previous is not None
    assert beat.previous > former - 2 * DAY, "the days of the former clock are stored"


async def test_a_step_of_the_clock_is_logged(relay: Relay, capfd: pytest.CaptureFixture[str]) -> None:
    await relay.beat()
    relay.clock.now += 20
    relay.clock.step(500)
    await relay.beat()
    assert [line["seconds"] for line in events(capfd) if line["event"] == "clock_stepped"] == [500]


async def test_a_suspended_host_is_no_step_of_its_clock(registry: Registry, capfd: pytest.CaptureFixture[str]) -> None:
    """With the clock that relays use: the time of day and the time since the boot both include the suspension."""
    silence = Silence(registry, time.time, lambda count: None)
    assert silence._boot is boot_seconds
    await silence.beat()
    await silence.beat()
    assert not [line for line in events(capfd) if line["event"] == "clock_stepped"]


async def test_the_database_of_postgres_reports_its_own_clock(registry: Registry) -> None:
    beat = await registry.beat(START)
    assert (beat.database_time is not None) == isinstance(registry, PostgresRegistry)
    assert (await registry.beat(START)).previous == int(START) // 60 * 60


def test_days_of_presence_are_counted_from_the_newest() -> None:
    rows = [(day, 720) for day in range(400, 100, -1)]
    assert silent_before(rows, 90) == (400 - 179) * DAY
    assert silent_before(rows[:179], 90) is None
    assert silent_before([], 1) is None
