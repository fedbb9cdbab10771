"""The file of the SQLite registry: its permissions, its contents, other files in its place, and waiting."""

from __future__ import annotations

import asyncio
import hashlib
import sqlite3
import stat
from collections.abc import AsyncIterator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from relay.registry.migrate import Migration, migrate_sqlite, migrations
from relay.registry.model import Device, NewPush, RegistryBusy, RegistryUnusable, Server
from relay.registry.rules import Rate
from relay.registry.sqlite import histories
from relay.registry.sqlite.database import SqliteFile, open_database
from relay.registry.sqlite.registry import SqliteRegistry

NOW = 1_800_000_000
SERVER = hashlib.sha256(b"server").digest()
PHONE = hashlib.sha256(b"phone").digest()
DEVICE = Device(PHONE, b"key", "websocket", b"\x00a token of 32 bytes and some more", NOW, NOW)


def ignore(channel: str, data: bytes) -> None:
    pass


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "relay.db"


@pytest.fixture
async def registry(path: Path) -> AsyncIterator[SqliteRegistry]:
    registry = SqliteRegistry(path)
    await registry.open(ignore)
    yield registry
    await registry.close()


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Another process writes for a long time."""
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("BEGIN IMMEDIATE")
        yield


async def fill(registry: SqliteRegistry) -> None:
    await registry.register(DEVICE)
    await registry.trust(Server(SERVER, b"key", "name", NOW))
    for number in range(20):
        pushes = [NewPush(bytes([number]) * 16, f"{number}", PHONE, bytes(2000), NOW + 300)]
        await registry.admit(SERVER, pushes, NOW, Rate(0))


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


# Permissions


async def test_no_other_user_can_read_the_files(path: Path, registry: SqliteRegistry) -> None:
    await fill(registry)
    assert mode(path.parent) == 0o700
    assert {file.name: mode(file) for file in path.parent.iterdir()} == {
        "relay.db": 0o600,
        "relay.db-wal": 0o600,
        "relay.db-shm": 0o600,
    }


async def test_a_file_that_others_can_read_is_rejected(path: Path, registry: SqliteRegistry) -> None:
    await registry.close()
    path.chmod(0o640)
    with pytest.raises(RegistryUnusable, match=r"open to other users \(0640\); chmod it to 0600"):
        await SqliteRegistry(path).open(ignore)


async def test_an_existing_directory_keeps_its_mode(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    registry = SqliteRegistry(tmp_path / "relay.db")
    await registry.open(ignore)
    await registry.close()
    assert (mode(tmp_path), mode(tmp_path / "relay.db")) == (0o755, 0o600)


async def test_an_overwritten_token_is_in_no_file(path: Path, registry: SqliteRegistry) -> None:
    await registry.register(DEVICE)
    await registry.evict(PHONE, "Unregistered", DEVICE.token, NOW)
    await registry.close()
    assert all(DEVICE.token not in file.read_bytes() for file in path.parent.iterdir())


# Contents


async def test_everything_is_stored_when_the_file_is_opened_again(path: Path, registry: SqliteRegistry) -> None:
    await fill(registry)
    await registry.use_nonce(b"nonce", NOW)
    await registry.close()
    again = SqliteRegistry(path)
    await again.open(ignore)
    assert await again.device(PHONE) == msgspec.structs.replace(DEVICE, used=True)
    assert [one.name for one in await again.servers()] == ["name"]
    assert [one.push.push_key for one in await again.pending_for([PHONE], NOW)] == [str(number) for number in range(20)]
    assert not await again.use_nonce(b"nonce", NOW)
    assert await again.count_devices() == {"websocket": 1}
    await again.close()


async def test_a_command_next_to_the_relay_reads_and_changes_the_same_data(
    path: Path, registry: SqliteRegistry
) -> None:
    await fill(registry)
    command = SqliteRegistry(path)
    await command.open(ignore)
    assert await command.device(PHONE) == msgspec.structs.replace(DEVICE, used=True)
    assert await command.distrust(SERVER)
    await command.close()
    assert await registry.servers() == []


# Other files in its place


@pytest.mark.parametrize("content", [b"not a database", bytes(8192), b"SQLite format 3\x00" + bytes(4096)])
async def test_a_file_that_is_not_a_database_is_a_clear_error(path: Path, content: bytes) -> None:
    path.parent.mkdir()
    path.touch(0o600)
    path.write_bytes(content)
    with pytest.raises(RegistryUnusable, match=r"relay\.db"):
        await SqliteRegistry(path).open(ignore)
    assert path.read_bytes() == content


async def test_a_database_of_another_program_is_a_clear_error_and_stays_unchanged(path: Path) -> None:
    path.parent.mkdir()
    path.touch(0o600)
    with closing(sqlite3.connect(path)) as theirs:
        theirs.execute("CREATE TABLE device (theirs)")
    content = path.read_bytes()
    with pytest.raises(RegistryUnusable, match="another program"):
        await SqliteRegistry(path).open(ignore)
    assert path.read_bytes() == content


@pytest.mark.parametrize("damage", ["shorter", "overwritten"])
async def test_a_damaged_file_is_a_clear_error(path: Path, registry: SqliteRegistry, damage: str) -> None:
    await fill(registry)
    await registry.close()
    content = path.read_bytes()
    middle = len(content) // 2 // 4096 * 4096
    path.write_bytes(
        content[:middle] if damage == "shorter" else content[:middle] + b"\xff" * 4096 + content[middle + 4096 :]
    )
    with pytest.raises(RegistryUnusable, match=r"damaged|malformed"):
        await SqliteRegistry(path).open(ignore)


async def test_a_path_that_cannot_be_opened_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "directory").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "file").touch()
    for path in (tmp_path / "directory", tmp_path / "link", tmp_path / "file" / "relay.db"):
        with pytest.raises(RegistryUnusable, match=r"cannot be opened: .*; set RELAY_DATA_DIR") as rejected:
            await SqliteRegistry(path).open(ignore)
        assert "Errno" not in str(rejected.value)


async def test_a_changed_or_newer_migration_is_rejected(path: Path, registry: SqliteRegistry) -> None:
    await registry.close()
    known = migrations("sqlite")
    newer = Migration.of(f"{len(known) + 1:04}_newer", "CREATE TABLE newer (a);")
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        assert migrate_sqlite(db, known) == []
        with pytest.raises(RegistryUnusable, match="not the one that was applied"):
            migrate_sqlite(db, [Migration.of(known[0].name, known[0].sql + " "), *known[1:]])
        assert migrate_sqlite(db, [*known, newer]) == [newer.name]
    with pytest.raises(RegistryUnusable, match=f"at migration {newer.number}, this relay knows {len(known)}"):
        await SqliteRegistry(path).open(ignore)


async def test_a_migration_that_fails_is_rolled_back(path: Path, registry: SqliteRegistry) -> None:
    await registry.close()
    known = migrations("sqlite")
    broken = Migration.of(f"{len(known) + 1:04}_two", "CREATE TABLE two (a);\nINSERT INTO nowhere VALUES (1);")
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        with pytest.raises(sqlite3.OperationalError, match="nowhere"):
            migrate_sqlite(db, [*known, broken])
        assert db.execute("SELECT name FROM sqlite_master WHERE name = 'two'").fetchall() == []
        assert not db.in_transaction


async def test_a_database_of_the_previous_release_keeps_its_queued_pushes(path: Path) -> None:
    path.parent.mkdir(0o700)
    path.touch(0o600)
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        migrate_sqlite(db, migrations("sqlite")[:6])
        db.execute(_OLD_PUSH, (SERVER, b"i" * 16, PHONE, b"payload", NOW + 300, NOW))
    registry = SqliteRegistry(path)
    await registry.open(ignore)
    (held,) = await registry.pending_for([PHONE], NOW)
    assert (held.push.push_key, held.push.payload, held.push.traceparent) == ("old", b"payload", None)
    await registry.close()


_OLD_PUSH = (
    "INSERT INTO push (push_key, server_id, push_id, fingerprint, payload, expires_at, priority, exempt, owner, "
    "platform, status, due, attempts, created_at) VALUES "
    "('old', ?, ?, ?, ?, ?, 'high', 0, '', 'websocket', 'queued', 0, 0, ?)"
)


async def test_without_migrating_a_missing_empty_or_older_database_is_rejected_and_stays_as_it_is(path: Path) -> None:
    with pytest.raises(RegistryUnusable, match=f"{path} does not exist; set DATABASE_URL or RELAY_DATA_DIR"):
        await SqliteRegistry(path).open(ignore, migrate=False)
    assert not path.exists()
    path.parent.mkdir()
    path.touch(0o600)
    with pytest.raises(RegistryUnusable, match="no relay has used this database yet"):
        await SqliteRegistry(path).open(ignore, migrate=False)
    newest = len(migrations("sqlite"))
    with closing(open_database(path, 1)) as db:
        db.execute("DELETE FROM migration WHERE number = ?", (newest,))
    with pytest.raises(RegistryUnusable, match=f"is at migration {newest - 1}, this version needs {newest}"):
        await SqliteRegistry(path).open(ignore, migrate=False)


# Waiting


async def test_a_file_that_another_process_locks_is_busy_until_it_is_unlocked(
    path: Path,
) -> None:
    registry = SqliteRegistry(path, lock_timeout=0.01)
    await registry.open(ignore)
    with locked(path):
        for call in (registry.register(DEVICE), registry.check(), registry.use_nonce(b"nonce", NOW)):
            with pytest.raises(RegistryBusy, match="locked"):
                await call
    await registry.register(DEVICE)
    await registry.close()


async def test_a_caller_that_waits_too_long_is_busy_and_nothing_is_written(path: Path) -> None:
    registry = SqliteRegistry(path, timeout=0.05)
    await registry.open(ignore)
    with locked(path):
        late = await asyncio.gather(*(registry.register(DEVICE) for _ in range(3)), return_exceptions=True)
    assert [type(one) for one in late] == [RegistryBusy] * 3
    await registry.close()
    again = SqliteRegistry(path)
    await again.open(ignore)
    assert await again.device(PHONE) is None
    await again.close()


async def test_waiting_callers_are_limited(path: Path) -> None:
    file = SqliteFile(path, max_waiting=2, timeout=120)
    await file.open()
    with locked(path):
        waiting = [asyncio.create_task(file.transact(lambda db: None)) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(RegistryBusy, match="too many"):
            await file.transact(lambda db: None)
    await asyncio.gather(*waiting)
    await file.transact(lambda db: None)
    await file.close()


async def test_an_error_in_a_transaction_rolls_it_back(path: Path) -> None:
    file = SqliteFile(path, max_waiting=2, timeout=120)
    await file.open()

    def half(db: sqlite3.Connection) -> None:
        db.execute("INSERT INTO nonce VALUES (x'00', 1)")
        raise LookupError("in the middle")

    with pytest.raises(LookupError):
        await file.transact(half)
    assert await file.transact(lambda db: db.execute("SELECT count(*) FROM nonce").fetchone()) == (0,)
    await file.close()


async def test_pushes_from_before_the_history_have_one(path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    path.touch(0o600)
    name, server = DEVICE.fingerprint, bytes(32)
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        migrate_sqlite(db, migrations("sqlite")[:7])
        db.execute("INSERT INTO device VALUES (?, x'', 'apns', x'', ?, ?, 0, NULL, NULL, 1)", (name, NOW, NOW))
        for key, status in (("waits", "queued"), ("ended", "delivered")):
            db.execute(
                "INSERT INTO push (server_id, push_key, push_id, fingerprint, payload, expires_at, priority, exempt, "
                "platform, status, due, attempts, created_at) "
                "VALUES (?, ?, ?, ?, x'', ?, 'high', 0, 'apns', ?, 0, 0, ?)",
                (server, key, key.encode(), name, NOW + 300, status, NOW),
            )
    registry = SqliteRegistry(path)
    await registry.open(ignore)
    for now in (NOW, NOW + 300):
        await registry.sweep(now, 10)
        found = await registry.history(server, name, name, now)
        assert found is not None
        assert {one.push_key for one in found.pushes} == {"waits", "ended"}
        assert [one.ended_at for one in found.pushes if one.push_key == "ended"] == [None]
    await registry.close()


async def test_histories_are_found_and_forgotten_without_a_scan(path: Path, registry: SqliteRegistry) -> None:
    await registry.close()
    statements = [*histories.MATCHES, *histories.PAST, histories.FORGET_OLD, histories.FORGET_EXCESS]
    statements.append("DELETE FROM history WHERE fingerprint = ?")
    with closing(sqlite3.connect(path)) as db:
        for statement in statements:
            values: Any = dict.fromkeys(("server_id", "first", "last", "since"), b"")
            if statement not in histories.MATCHES:
                values = (b"",) * statement.count("?")
            plan = " ".join(row[3] for row in db.execute(f"EXPLAIN QUERY PLAN {statement}", values))
            assert "SEARCH" in plan
            assert not {"SCAN", "TEMP"} & set(plan.split()), statement


def test_the_table_of_devices_keeps_rows_indexes_and_tally_when_a_platform_is_added(tmp_path: Path) -> None:
    one = (b"a" * 32, b"k", "apns", b"t", 1, 2, 3, None, None, 0)
    evicted = (b"b" * 32, b"k", "websocket", b"", 4, 5, 0, "silent", 6, 1)
    insert = "INSERT INTO device VALUES (?,?,?,?,?,?,?,?,?,?)"
    names = "SELECT name FROM sqlite_master WHERE tbl_name = 'device' ORDER BY name"
    with closing(sqlite3.connect(tmp_path / "old.db", isolation_level=None)) as db:
        migrate_sqlite(db, migrations("sqlite")[:8])
        db.executemany(insert, [one, evicted])
        before = db.execute(names).fetchall()
        migrate_sqlite(db, migrations("sqlite")[:9])
        assert db.execute("SELECT * FROM device ORDER BY fingerprint").fetchall() == [one, evicted]
        assert db.execute(names).fetchall() == before
        db.execute(insert, (b"c" * 32, b"k", "webpush", *one[3:]))
        tally = dict(db.execute("SELECT kind, n FROM device_tally"))
        assert tally == {"apns": 1, "fcm": 0, "websocket": 0, "webpush": 1, "evicted": 1}
        with pytest.raises(sqlite3.IntegrityError):
            db.execute("UPDATE device SET platform = 'pigeon'")
