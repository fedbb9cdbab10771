"""What the LMDB store guarantees beyond the contract: size, reads without writes, adoption, errors."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest

from sigil.core.session_store import Decision, Key, Kind, StoreUnusable
from sigil.store.lmdb import DATA_FILE, LmdbStore

PER_CHALLENGE = 450
ROWS = 50_000


class Challenge(msgspec.Struct, frozen=True, array_like=True):
    """As large as a pending challenge of the server: about 200 bytes."""

    state: int
    due: int
    created: int
    owner: str
    public_key: bytes
    nonce: bytes
    action_type: str
    parameters: bytes
    match_code: int | None = None
    wrong_codes: int = 0


CHALLENGE = Kind(b"c", Challenge)


def open_store(path: Path, *, size: int = 256 << 20, end_log_size: int = 65536) -> LmdbStore:
    return LmdbStore(path, size=size, kinds=[CHALLENGE], clock=lambda: 1e9, end_log_size=end_log_size)


def challenge(due: int) -> Challenge:
    parameters = b'{"amount":"129.90","currency":"EUR","to":"Example Books Ltd"}'
    return Challenge(0, due, due - 300, "key-1", os.urandom(33), os.urandom(32), "payment.confirm", parameters, 42)


async def test_a_pending_challenge_costs_at_most_450_bytes_with_its_index(memory_directory: Path) -> None:
    store = open_store(memory_directory)
    empty = store.usage().used
    for second in range(1_700_000_000, 1_700_000_000 + ROWS // 200):
        # As in production: random ids, 200 per second.
        writes = tuple((Key(CHALLENGE, os.urandom(16)), challenge(second)) for _ in range(200))
        await store.transact([], lambda now, rows, writes=writes: Decision(None, writes), creates=True)
    assert len(msgspec.msgpack.encode(challenge(1_700_000_000))) >= 160
    assert (store.usage().used - empty) / ROWS <= PER_CHALLENGE
    store.close()


async def test_a_decision_that_writes_nothing_changes_no_page(memory_directory: Path) -> None:
    store = open_store(memory_directory)
    before = store._env.info()["last_txnid"]
    assert await store.transact([Key(CHALLENGE, b"a")], lambda now, rows: Decision("seen"), creates=True) == "seen"
    assert store._env.info()["last_txnid"] == before
    store.close()


async def test_a_second_store_reads_the_rows_of_the_first(memory_directory: Path) -> None:
    key, row = Key(CHALLENGE, b"a"), challenge(50)
    store = open_store(memory_directory)
    await store.transact([], lambda now, rows: Decision(None, ((key, row),), (b"a",)))
    store.close()
    store = open_store(memory_directory)
    assert await store.get(key) == row
    assert await store.due(50, 1) == [key]
    assert (await store.read_end_log(0)).ids == (b"a",)
    store.close()


async def test_an_adopted_end_log_with_a_larger_size_shrinks(memory_directory: Path) -> None:
    store = open_store(memory_directory)
    await store.transact([], lambda now, rows: Decision(None, ended=(b"e",) * 200))
    store.close()
    store = open_store(memory_directory, end_log_size=10)
    for _ in range(4):
        await store.transact([], lambda now, rows: Decision(None, ended=(b"f",) * 60))
    tail = await store.read_end_log(0)
    assert (tail.position, len(tail.ids), tail.truncated) == (440, 10, True)
    store.close()


async def test_only_the_user_of_the_server_can_read_the_files(memory_directory: Path) -> None:
    store = open_store(memory_directory)
    assert {file.name: file.stat().st_mode & 0o077 for file in memory_directory.iterdir()} == {
        "data.mdb": 0,
        "lock.mdb": 0,
    }
    store.close()


async def test_a_check_detects_that_the_files_were_removed_under_the_server(memory_directory: Path) -> None:
    store = open_store(memory_directory)
    (memory_directory / DATA_FILE).unlink()
    with pytest.raises(StoreUnusable, match="cannot be used"):
        await store.check()
    (memory_directory / DATA_FILE).touch()
    with pytest.raises(StoreUnusable, match="were replaced"):
        await store.check()
    store.close()


def test_a_file_that_is_no_environment_is_unusable(memory_directory: Path) -> None:
    (memory_directory / DATA_FILE).write_bytes(b"x" * 8192)
    with pytest.raises(StoreUnusable):
        open_store(memory_directory)


async def test_a_row_that_is_not_of_its_kind_is_unusable(memory_directory: Path) -> None:
    store = open_store(memory_directory)
    with store._env.begin(write=True) as txn:
        txn.put(b"ca", b"\xff\xff", db=store._rows)
    with pytest.raises(StoreUnusable, match="cannot be read"):
        await store.get(Key(CHALLENGE, b"a"))
    with pytest.raises(StoreUnusable, match="cannot be read"):
        await store.transact([Key(CHALLENGE, b"a")], lambda now, rows: Decision(None))
    store.close()


async def test_a_due_row_of_an_unknown_kind_is_unusable(memory_directory: Path) -> None:
    store = open_store(memory_directory)
    with store._env.begin(write=True) as txn:
        txn.put(b"\x00\x00\x00\x01?a", b"", db=store._due)
    with pytest.raises(StoreUnusable, match="unknown kind"):
        await store.due(9, 9)
    store.close()
