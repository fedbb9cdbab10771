"""The registry on PostgreSQL only: outages, timeouts, concurrent users, statements and migrations."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import asyncpg
import msgspec
import pytest

from relay.registry.migrate import Migration, migrate_postgres, migrations
from relay.registry.model import (
    LEASE_SECONDS,
    PUSHES,
    AttemptOutcome,
    Device,
    NewPush,
    RegistryBusy,
    RegistryUnusable,
    Server,
)
from relay.registry.postgres import pushes
from relay.registry.postgres.pool import PostgresPool
from relay.registry.postgres.registry import PostgresRegistry
from relay.registry.rules import Rate
from tests.support.live import DEADLINE
from tests.support.postgres import PostgresServer

pytest_plugins = ["tests.support.postgres_fixtures"]

NOW = 1_800_000_000
SERVER = hashlib.sha256(b"server").digest()
LOST = ("lost", b"")


@pytest.fixture
def dsn(postgres: PostgresServer) -> str:
    return postgres.new_database()


class RegistryOpener:
    """Opens registries and closes them at the end of a test; each comes with its received notifications."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._opened: list[PostgresRegistry] = []

    async def __call__(self, **options: Any) -> tuple[PostgresRegistry, list[tuple[str, bytes]]]:
        notifications: list[tuple[str, bytes]] = []
        waiting_calls = {"acquire_timeout": DEADLINE, "command_timeout": DEADLINE, "startup_timeout": DEADLINE}
        registry = PostgresRegistry(self._dsn, **(waiting_calls | options))
        await registry.open(lambda channel, data: notifications.append((channel, data)))
        self._opened.append(registry)
        return registry, notifications

    async def close(self) -> None:
        for registry in self._opened:
            await registry.close()


@pytest.fixture
async def open_registry(dsn: str) -> AsyncIterator[RegistryOpener]:
    registries = RegistryOpener(dsn)
    yield registries
    await registries.close()


@asynccontextmanager
async def locked(dsn: str, table: str) -> AsyncIterator[None]:
    """No other session reads or writes the table until the end."""
    connection = await asyncpg.connect(dsn)
    try:
        async with connection.transaction():
            await connection.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
            yield
    finally:
        await connection.close()


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(DEADLINE):
        while not condition():
            await asyncio.sleep(0.01)


async def again(call: Callable[[], Awaitable[Any]]) -> Any:
    """Repeat a call until it is no longer busy; its result."""
    async with asyncio.timeout(DEADLINE):
        while True:
            with suppress(RegistryBusy):
                return await call()
            await asyncio.sleep(0.02)


async def lock_waits(postgres: PostgresServer, dsn: str, number: int) -> None:
    """Wait until this number of sessions wait for a lock."""
    sql = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    await until(lambda: postgres.query(dsn, sql) == [[str(number)]])


def fingerprint(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest()


def device(name: str = "phone", platform: Any = "apns") -> Device:
    return Device(fingerprint(name), b"key", platform, b"token", NOW, NOW)


def push(key: str, to: str = "phone") -> NewPush:
    return NewPush(fingerprint(key)[:16], key, fingerprint(to), b"payload", NOW + 300)


# Outages


@pytest.mark.parametrize("end", ["stop", "kill"])
async def test_an_unreachable_database_is_busy_and_the_registry_recovers(
    postgres: PostgresServer, open_registry: RegistryOpener, end: str
) -> None:
    registry, notifications = await open_registry(pool_size=2)
    await registry.register(device())
    await registry.trust(Server(SERVER, b"key", "name", NOW))
    await registry.admit(SERVER, [push("a")], NOW, Rate(0))
    getattr(postgres, end)()
    try:
        for call in (
            registry.check,
            lambda: registry.device(fingerprint("phone")),
            lambda: registry.admit(SERVER, [push("b")], NOW, Rate(0)),
            lambda: registry.record_outcomes([AttemptOutcome(SERVER, "a", "delivered")], NOW),
            lambda: registry.claim("apns", NOW, 1),
            lambda: registry.use_nonce(b"nonce", NOW),
            lambda: registry.notify("channel", b""),
        ):
            for _ in range(3):
                with pytest.raises(RegistryBusy):
                    await call()
    finally:
        postgres.start()
    await again(registry.check)
    await until(lambda: LOST in notifications)
    assert await registry.device(fingerprint("phone")) == msgspec.structs.replace(device(), used=True)
    assert [one.name for one in await registry.servers()] == ["name"]
    assert [one.push.push_key for one, _ in await registry.claim("apns", NOW + LEASE_SECONDS, 9)] == ["a"]
    await registry.notify("channel", b"data")
    await until(lambda: ("channel", b"data") in notifications)


async def test_an_admission_that_was_interrupted_can_be_repeated(
    postgres: PostgresServer, open_registry: RegistryOpener, dsn: str
) -> None:
    registry, _ = await open_registry()
    await registry.register(device())
    async with locked(dsn, "push"):
        admission = asyncio.create_task(registry.admit(SERVER, [push("a")], NOW, Rate(0)))
        await lock_waits(postgres, dsn, 1)
        postgres.query(dsn, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
        with pytest.raises(RegistryBusy):
            await admission
    assert await registry.outcomes(SERVER, ["a"]) == [None]
    assert (await again(lambda: registry.admit(SERVER, [push("a")], NOW, Rate(0))))[0].status == "queued"


async def test_a_listener_reports_a_lost_connection_and_listens_again(
    postgres: PostgresServer, open_registry: RegistryOpener, dsn: str
) -> None:
    registry, notifications = await open_registry()
    for number in range(1, 4):
        postgres.query(dsn, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%'")
        await until(lambda expected=number: notifications.count(LOST) == expected)
        await registry.notify("channel", bytes([number]))
        await until(lambda expected=number: ("channel", bytes([expected])) in notifications)
    assert [channel for channel, _ in notifications] == ["lost", "channel"] * 3


async def test_a_registry_that_is_closed_at_once_leaves_no_session(postgres: PostgresServer, dsn: str) -> None:
    """No step of the event loop is between the start of the listener and its end."""
    registry = PostgresRegistry(dsn, startup_timeout=DEADLINE)
    await registry.open(lambda channel, data: None)
    await registry.close()
    sessions = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
    await until(lambda: postgres.query(dsn, sessions) == [["1"]])


async def test_open_waits_for_a_database_that_starts_late(
    postgres: PostgresServer, open_registry: RegistryOpener, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect, attempts = asyncpg.connect, 0

    async def counted(*arguments: Any, **options: Any) -> Any:
        nonlocal attempts
        attempts += 1
        return await connect(*arguments, **options)

    monkeypatch.setattr(asyncpg, "connect", counted)
    postgres.stop()
    try:
        opening = asyncio.create_task(open_registry())
        await until(lambda: attempts > 2)
    finally:
        postgres.start()
    registry, _ = await opening
    await registry.check()


async def test_a_database_that_does_not_answer_is_a_clear_error(
    postgres: PostgresServer, open_registry: RegistryOpener
) -> None:
    postgres.stop()
    try:
        with pytest.raises(RegistryUnusable, match=r"did not answer within 0\.1 s"):
            await open_registry(startup_timeout=0.1)
    finally:
        postgres.start()


async def test_what_the_start_waits_for_is_reported_at_once(
    postgres: PostgresServer, open_registry: RegistryOpener
) -> None:
    lines: list[str] = []
    postgres.stop()
    try:
        with pytest.raises(RegistryUnusable):
            await open_registry(startup_timeout=0.5, on_waiting=lines.append)
    finally:
        postgres.start()
    assert len(lines) == 1
    assert lines[0].startswith("PostgreSQL does not answer yet, waiting up to 0.5 s: ")


async def test_a_database_that_takes_no_writes_is_unhealthy(
    postgres: PostgresServer, open_registry: RegistryOpener, dsn: str
) -> None:
    """A standby, after a failover: it answers SELECT 1."""
    registry, _ = await open_registry()
    await registry.check()
    name = dsn.split("@/", 1)[1].split("?", 1)[0]
    postgres.query(dsn, f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    await registry.close()
    reopened, _ = await open_registry()
    with pytest.raises(RegistryBusy):
        await reopened.check()


async def test_an_unusable_dsn_is_reported_at_once_and_without_the_password(dsn: str) -> None:
    nowhere = dsn.replace("relay_", "nowhere_").replace("relay@", "relay:secret@")
    for wrong in (nowhere, "postgresql://relay:secret@localhost:port/x", "mysql://relay:secret@localhost/x"):
        with pytest.raises(RegistryUnusable, match="DATABASE_URL cannot be used") as rejected:
            await PostgresRegistry(wrong, startup_timeout=DEADLINE).open(lambda channel, data: None)
        assert "secret" not in str(rejected.value)


async def test_without_migrating_an_empty_or_older_database_is_rejected_and_stays_as_it_is(
    postgres: PostgresServer, dsn: str
) -> None:
    registry = PostgresRegistry(dsn, startup_timeout=DEADLINE)
    with pytest.raises(RegistryUnusable, match="no relay has used this database yet"):
        await registry.open(lambda channel, data: None, migrate=False)
    assert postgres.query(dsn, "SELECT to_regclass('migration') IS NULL") == [["t"]]
    await registry.migrate()
    newest = len(migrations("postgres"))
    postgres.query(dsn, "DELETE FROM migration WHERE number = (SELECT max(number) FROM migration)")
    with pytest.raises(RegistryUnusable, match=f"is at migration {newest - 1}, this version needs {newest}"):
        await registry.open(lambda channel, data: None, migrate=False)


# Timeouts and limits


async def test_a_caller_without_a_connection_in_time_is_busy_and_connections_return_to_the_pool(
    postgres: PostgresServer, open_registry: RegistryOpener, dsn: str
) -> None:
    registry, _ = await open_registry(pool_size=2, acquire_timeout=0.5)
    await again(lambda: asyncio.gather(registry.check(), registry.check()))
    for _ in range(3):
        async with locked(dsn, "device"):
            stuck = [asyncio.create_task(registry.device(fingerprint("phone"))) for _ in range(2)]
            await lock_waits(postgres, dsn, 2)
            late = await asyncio.gather(*(registry.check() for _ in range(5)), return_exceptions=True)
            assert {type(one) for one in late} == {RegistryBusy}
        assert await asyncio.gather(*stuck) == [None, None]


async def test_waiting_callers_are_limited(postgres: PostgresServer, open_registry: RegistryOpener, dsn: str) -> None:
    registry, _ = await open_registry(pool_size=1, max_waiting=2)
    async with locked(dsn, "device"):
        stuck = asyncio.create_task(registry.device(fingerprint("phone")))
        await lock_waits(postgres, dsn, 1)
        waiting_calls = [asyncio.create_task(registry.check()) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(RegistryBusy, match="too many"):
            await registry.check()
    await asyncio.gather(stuck, *waiting_calls)
    await registry.check()


async def test_a_command_timeout_is_busy_and_costs_its_connection_but_no_permit(
    open_registry: RegistryOpener, dsn: str
) -> None:
    registry, _ = await open_registry(pool_size=2, command_timeout=0.2)
    async with locked(dsn, "device"):
        for _ in range(5):
            with pytest.raises(RegistryBusy):
                await registry.device(fingerprint("phone"))
            with pytest.raises(RegistryBusy):
                await registry.register(device())
    await again(lambda: registry.register(device()))
    await again(lambda: asyncio.gather(registry.check(), registry.check()))


async def test_cancelled_callers_return_their_connections(
    postgres: PostgresServer, open_registry: RegistryOpener, dsn: str
) -> None:
    registry, _ = await open_registry(pool_size=2)
    async with locked(dsn, "device"):
        for _ in range(3):
            tasks = [asyncio.create_task(registry.register(device())) for _ in range(4)]
            await lock_waits(postgres, dsn, 2)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            assert all(task.cancelled() for task in tasks)
            postgres.query(dsn, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
            await lock_waits(postgres, dsn, 0)
    await asyncio.gather(*(registry.check() for _ in range(10)))
    assert await registry.device(fingerprint("phone")) is None


async def test_a_frozen_database_is_busy_until_it_continues(
    postgres: PostgresServer, open_registry: RegistryOpener
) -> None:
    registry, _ = await open_registry(acquire_timeout=0.3)
    with postgres.frozen():
        for _ in range(2):
            with pytest.raises(RegistryBusy):
                await registry.check()
    await again(registry.check)


# Concurrent users


async def test_replicas_receive_notifications_and_foreign_ones_are_ignored(
    postgres: PostgresServer, open_registry: RegistryOpener, dsn: str
) -> None:
    (first, first_received), (second, second_received) = await open_registry(), await open_registry()
    for payload in ("", "no separator", "channel:***", ":", "lost:"):
        postgres.query(dsn, f"SELECT pg_notify('sigil_relay', '{payload}')")
    await first.notify("one", b"\x00\xff")
    await second.notify("two", b"")
    await second.register(device("tablet", "websocket"))
    await second.admit(SERVER, [push("a", "tablet")], NOW, Rate(0))
    expected = [("", b""), ("one", b"\x00\xff"), ("two", b""), (PUSHES, fingerprint("tablet")[:16])]
    await until(lambda: len(first_received) == len(second_received) == len(expected))
    assert first_received == second_received == expected


async def test_concurrent_replicas_decide_once(open_registry: RegistryOpener) -> None:
    (first, _), (second, _) = await open_registry(), await open_registry()
    both = (first, second) * 10
    names = [str(number) for number in range(30)]
    for name in names:
        await first.register(device(name))
    assert sum(await asyncio.gather(*(one.use_nonce(b"nonce", NOW) for one in both))) == 1
    servers = [Server(fingerprint(str(number)), b"", "", NOW) for number in range(len(both))]
    assert sum(await asyncio.gather(*(one.trust_first(server) for one, server in zip(both, servers, strict=True)))) == 1
    requested = [push(name, name) for name in names]
    orders = (requested, requested[::-1]) * 10
    admitted = await asyncio.gather(
        *(one.admit(SERVER, order, NOW, Rate(6, 1)) for one, order in zip(both, orders, strict=True))
    )
    assert sum(answer.device is not None for answers in admitted for answer in answers) == len(names)
    claimed = await asyncio.gather(*(one.claim("apns", NOW + LEASE_SECONDS, 4) for one in both))
    keys = [one.push.push_key for claim in claimed for one, _ in claim]
    assert len(keys) == len(set(keys))
    await asyncio.gather(
        *(one.record_outcomes([AttemptOutcome(SERVER, name, "delivered") for name in names], NOW) for one in both)
    )
    assert await second.backlog() == 0


async def test_transactions_are_repeated_after_a_deadlock(dsn: str, open_registry: RegistryOpener) -> None:
    registry, _ = await open_registry()
    await registry.register(device("a"))
    await registry.register(device("b"))
    pool = PostgresPool(
        dsn,
        pool_size=2,
        max_waiting=2,
        acquire_timeout=DEADLINE,
        command_timeout=DEADLINE,
        application_name="test",
        on_waiting=lambda line: None,
    )
    await pool.open()
    met, done = asyncio.Barrier(2), asyncio.Event()
    attempts_made = 0

    async def lock_both(connection: Any, names: str) -> None:
        nonlocal attempts_made
        attempts_made += 1
        if attempts_made > 2:
            # Otherwise the aborted transaction could be first, and cause a second deadlock.
            await done.wait()
        for name in names:
            await connection.execute("SELECT FROM device WHERE fingerprint = $1 FOR UPDATE", fingerprint(name))
            if attempts_made <= 2 and name == names[0]:
                await met.wait()

    async def lock(names: str) -> None:
        await pool.transact(lambda connection: lock_both(connection, names))
        done.set()

    try:
        await asyncio.gather(lock("ab"), lock("ba"))
    finally:
        await pool.close()
    assert attempts_made == 3


# Statements


class Counting:
    """A connection that counts round trips."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self.calls = 0

    async def fetch(self, *arguments: Any) -> Any:
        self.calls += 1
        return await self._connection.fetch(*arguments)

    async def execute(self, *arguments: Any) -> Any:
        self.calls += 1
        return await self._connection.execute(*arguments)


async def test_a_request_of_500_pushes_is_three_statements_and_its_outcomes_one(
    dsn: str, open_registry: RegistryOpener
) -> None:
    registry, _ = await open_registry()
    requested = [push(f"key {number}", str(number % 50)) for number in range(500)]
    for number in range(50):
        await registry.register(device(str(number)))
    connection = await asyncpg.connect(dsn)
    counting = Counting(connection)
    async with connection.transaction():
        answers = await pushes.admit_pushes(counting, SERVER, requested, NOW, Rate(60, 10))
    assert counting.calls == 3
    assert all(answer.device is not None for answer in answers)
    await pushes.write_outcomes(counting, [AttemptOutcome(SERVER, one.push_key, "delivered") for one in requested])
    assert counting.calls == 4
    await connection.close()


async def test_no_statement_scans_with_plans_made_on_empty_tables(
    postgres: PostgresServer, open_registry: RegistryOpener, dsn: str
) -> None:
    registry, _ = await open_registry(pool_size=1)
    rows = 20_000

    async def everything(round_number: int) -> None:
        key, now = f"key {round_number}", NOW + round_number
        await registry.register(device(key, "websocket"))
        await registry.register(device("phone"))
        for to in (key, "phone"):
            await registry.admit(SERVER, [push(f"{to} {key}", to)], now, Rate(600))
        await registry.record_outcomes([AttemptOutcome(SERVER, f"phone {key}", "queued", "503", now)], now)
        await registry.claim("apns", now, 1)
        await registry.record_outcomes([AttemptOutcome(SERVER, f"phone {key}", "failed", "x")], now)
        await registry.pending_for([fingerprint(key)], now)
        await registry.acknowledge(fingerprint(key), push(f"{key} {key}", key).push_id, now)
        await registry.outcomes(SERVER, [f"phone {key}"])
        await registry.history(SERVER, fingerprint("phone"), fingerprint("phone"), now)
        name = fingerprint(key)
        await registry.history(SERVER, name[:16] + bytes(16), name[:16] + b"\xff" * 16, now)
        short = msgspec.structs.replace(push(f"short {key}", "phone"), expires_at=now + 1)
        await registry.admit(SERVER, [short], now, Rate(600))
        await registry.sweep(now + 1, 10)
        await registry.forget_histories(10 * rows, 1)
        await registry.use_nonce(key.encode(), now)
        await registry.mark_seen(fingerprint(key), now + 4000)
        await registry.record_failure(fingerprint(key), b"token")
        await registry.reseal(fingerprint(key), b"token", b"new token")
        await registry.device(fingerprint(key))
        await registry.devices(fingerprint(key), 2)
        await registry.evict(fingerprint("phone"), "gone", device().token, now)
        await registry.unregister(fingerprint(key))
        await registry.prune(1, 1, now)
        await registry.sweep(1, 10)
        await registry.count_devices()

    for table in ("push", "device", "nonce", "bucket", "history"):
        postgres.query(dsn, f"ALTER TABLE {table} SET (autovacuum_enabled = off)")
    postgres.query(dsn, "VACUUM ANALYZE")
    for number in range(8):
        await everything(number)
    columns = "push_id, push_key, fingerprint, payload, expires_at, priority, exempt, server_id, platform, status"
    server, name = f"'\\x{SERVER.hex()}'", "sha256(i::text::bytea)"
    filling = [
        f"device SELECT {name}, '', 'websocket', '', 1e10, 1e10, 0, NULL, NULL",
        f"push ({columns}, due, attempts, created_at) SELECT {name}, i::text, sha256((i % 5000)::text::bytea), '', "
        f"1e10, 'high', false, {server}, 'websocket', 'queued', 1e10, 0, 0",
        "nonce SELECT i::text::bytea, 1e10",
        f"bucket SELECT {server}, {name}, 1e10",
        f"history SELECT {server}, {name}, 1e10, '[]'",
    ]
    for statement in filling:
        postgres.query(dsn, f"INSERT INTO {statement} FROM generate_series(1, {rows}) AS i")
    read = (
        "SELECT pg_stat_force_next_flush(), (SELECT sum(seq_tup_read) FROM pg_stat_user_tables WHERE relname IN "
        "('push', 'device', 'nonce', 'bucket', 'history')) + (SELECT sum(idx_tup_read) FROM pg_stat_user_indexes)"
    )
    before = int(postgres.query(dsn, read)[0][1])
    await everything(99)
    await registry.close()
    sessions = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
    await until(lambda: postgres.query(dsn, sessions) == [["1"]])
    assert int(postgres.query(dsn, read)[0][1]) - before < rows / 20
    assert postgres.query(dsn, "SELECT count(*) FROM push") > [[str(rows)]]


# Migrations


async def test_three_concurrent_migrations_apply_each_file_once(dsn: str) -> None:
    ours = migrations("postgres")
    known = (
        *ours,
        Migration.of(f"{len(ours) + 1:04}_slow", "CREATE TABLE two (); SELECT pg_sleep(0.1)"),
        Migration.of(f"{len(ours) + 2:04}_more", "CREATE TABLE three ()"),
    )
    connections = [await asyncpg.connect(dsn) for _ in range(3)]
    applied = await asyncio.gather(*(migrate_postgres(one, known) for one in connections))
    assert sorted(name for names in applied for name in names) == [one.name for one in known]
    rows = await connections[0].fetch("SELECT number, checksum FROM migration ORDER BY number")
    assert [tuple(row) for row in rows] == [(one.number, one.checksum) for one in known]
    assert await migrate_postgres(connections[0], known) == []
    for connection in connections:
        await connection.close()


async def test_relays_of_the_previous_release_and_of_this_one_share_a_database(dsn: str) -> None:
    """While replicas are replaced one by one, the old ones go on to write without the new columns."""
    old = await asyncpg.connect(dsn)
    await migrate_postgres(old, migrations("postgres")[:6])
    before = await old.prepare(_OLD_PUSH)
    await before.fetch("before", SERVER, b"i" * 16, PHONE, b"payload", NOW + 300, NOW)
    registry = PostgresRegistry(dsn, startup_timeout=DEADLINE, acquire_timeout=DEADLINE, command_timeout=DEADLINE)
    await registry.open(lambda channel, data: None)
    await before.fetch("after", SERVER, b"j" * 16, PHONE, b"payload", NOW + 300, NOW)
    held = await registry.pending_for([PHONE], NOW)
    assert [(one.push.push_key, one.push.traceparent) for one in held] == [("before", None), ("after", None)]
    await registry.close()
    await old.close()


_OLD_PUSH = (
    "INSERT INTO push (push_key, server_id, push_id, fingerprint, payload, expires_at, priority, exempt, owner, "
    "platform, status, due, attempts, created_at) VALUES "
    "($1, $2, $3, $4, $5, $6, 'high', false, '', 'websocket', 'queued', 0, 0, $7)"
)
PHONE = hashlib.sha256(b"phone").digest()


async def test_a_changed_migration_and_a_newer_database_are_rejected(dsn: str) -> None:
    connection = await asyncpg.connect(dsn)
    known = [Migration.of("0001_one", "CREATE TABLE one ()"), Migration.of("0002_two", "CREATE TABLE two ()")]
    await migrate_postgres(connection, known)
    changed = [known[0], Migration.of("0002_two", "CREATE TABLE two (); -- changed")]
    with pytest.raises(RegistryUnusable, match="0002_two is not the one that was applied"):
        await migrate_postgres(connection, changed)
    with pytest.raises(RegistryUnusable, match="the database is at migration 2, this relay knows 1"):
        await migrate_postgres(connection, known[:1])
    await connection.close()


async def test_a_migration_that_fails_is_rolled_back_and_earlier_ones_remain(dsn: str) -> None:
    connection = await asyncpg.connect(dsn)
    known = [
        Migration.of("0001_one", "CREATE TABLE one ()"),
        Migration.of("0002_two", "CREATE TABLE two (); SELECT 1 / 0"),
    ]
    with pytest.raises(asyncpg.DivisionByZeroError):
        await migrate_postgres(connection, known)
    assert await connection.fetch("SELECT number FROM migration") == [(1,)]
    assert await connection.fetchval("SELECT to_regclass('two')") is None
    corrected = [known[0], Migration.of("0002_two", "CREATE TABLE two ()")]
    assert await migrate_postgres(connection, corrected) == ["0002_two"]
    await connection.close()


async def test_a_database_with_tables_of_another_program_is_a_clear_error(postgres: PostgresServer, dsn: str) -> None:
    postgres.query(dsn, "CREATE TABLE device (theirs integer)")
    with pytest.raises(RegistryUnusable, match=r"cannot be migrated: .*already exists"):
        await PostgresRegistry(dsn, startup_timeout=DEADLINE).open(lambda channel, data: None)
    assert postgres.query(dsn, "SELECT to_regclass('migration') IS NULL") == [["t"]]


async def test_pushes_from_before_the_history_have_one(postgres: PostgresServer, dsn: str) -> None:
    connection = await asyncpg.connect(dsn)
    await migrate_postgres(connection, migrations("postgres")[:7])
    await connection.close()
    name, server = fingerprint("phone").hex(), SERVER.hex()
    postgres.query(dsn, f"INSERT INTO device VALUES ('\\x{name}', '', 'apns', '', {NOW}, {NOW}, 0, NULL, NULL)")  # noqa: S608
    columns = "push_key, push_id, server_id, fingerprint, payload, expires_at, priority, exempt, platform, status, due"
    for key, status in (("waits", "queued"), ("ended", "delivered")):
        own = f"'{key}', '{key}', '\\x{server}', '\\x{name}'"
        values = f"{own}, '', {NOW + 300}, 'high', false, 'apns', '{status}', 0, 0, {NOW}"
        postgres.query(dsn, f"INSERT INTO push ({columns}, attempts, created_at) VALUES ({values})")  # noqa: S608
    registry = PostgresRegistry(dsn, startup_timeout=DEADLINE)
    await registry.open(lambda channel, data: None)
    for now in (NOW, NOW + 300):
        await registry.sweep(now, 10)
        found = await registry.history(SERVER, fingerprint("phone"), fingerprint("phone"), now)
        assert found is not None
        assert {one.push_key for one in found.pushes} == {"waits", "ended"}
        assert [one.ended_at for one in found.pushes if one.push_key == "ended"] == [None]
    await registry.close()
