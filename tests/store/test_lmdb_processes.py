"""The LMDB store with several processes, some of which are killed."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

import pytest

from sigil.core.session_store import Decision
from sigil.store.lmdb import LmdbStore
from tests.store.store_worker import COUNT, TICKET, Tally, Ticket, open_store, ticket

KILLS = 100
WORKERS = 3


def start(task: str, *arguments: str | Path) -> subprocess.Popen[bytes]:
    script = Path(__file__).with_name("store_worker.py")
    return subprocess.Popen(
        [sys.executable, str(script), task, *map(str, arguments)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )


def line(process: subprocess.Popen[bytes]) -> bytes:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def kill(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.communicate()


async def put_tickets(store: LmdbStore, count: int) -> None:
    for first in range(0, count, 200):
        writes = tuple((ticket(number), Ticket("pending", 9)) for number in range(first, min(first + 200, count)))
        await store.transact([], lambda now, rows, writes=writes: Decision(None, writes))


async def test_of_four_processes_that_answer_a_ticket_one_succeeds(memory_directory: Path) -> None:
    store = open_store(memory_directory)
    await put_tickets(store, 500)
    workers = [start("compete", memory_directory) for _ in range(4)]
    assert [line(worker) for worker in workers] == [b"ready"] * 4
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write(b"go\n")
        worker.stdin.flush()
    won = [int(line(worker)) for worker in workers]
    for worker in workers:
        worker.communicate()
    assert sum(won) == 500
    assert await store.get(COUNT) == Tally(500)
    assert len((await store.read_end_log(0)).ids) == 500
    store.close()


@pytest.mark.parametrize("place", ["rule", "writes"])
async def test_a_process_killed_inside_its_transaction_leaves_the_old_rows_and_no_lock(
    memory_directory: Path, place: str
) -> None:
    store = open_store(memory_directory)
    await put_tickets(store, 2)
    worker = start("hold", memory_directory, place)
    assert line(worker) == b"stopped"
    kill(worker)
    key = ticket(0)
    await store.transact([key], lambda now, rows: Decision(None, ((key, Ticket(rows[0].state, 8)),)))
    assert await store.get(ticket(0)) == Ticket("pending", 8)
    assert await store.get(ticket(1)) == Ticket("pending", 9)
    assert await store.due(9, 10) == [ticket(0), ticket(1)]
    assert (await store.read_end_log(None)).position == 0
    store.close()


async def test_cleaning_frees_the_reader_slots_of_dead_processes(memory_directory: Path) -> None:
    store = open_store(memory_directory)
    worker = start("read", memory_directory)
    assert line(worker) == b"stopped"
    kill(worker)
    assert str(worker.pid) in store._env.readers()
    await store.clean()
    assert str(worker.pid) not in store._env.readers()
    store.close()


class WorkerPool:
    """A process that forks workers; a thread collects their acknowledgements."""

    def __init__(self, path: Path) -> None:
        self._process = start("pool", path)
        self._changed = threading.Condition()
        self._acknowledged: Counter[int] = Counter()
        self._dead: set[int] = set()
        self.lines: list[tuple[bytes, bytes]] = []
        self._reader = threading.Thread(target=self._collect)
        self._reader.start()

    def _collect(self) -> None:
        assert self._process.stdout is not None
        for text in self._process.stdout:
            pid, created, answered = text.rstrip(b"\n").split(b" ")
            with self._changed:
                self.lines.append((created, answered))
                self._acknowledged[int(pid)] += 1
                self._changed.notify()

    def fork(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(b"\n")
        self._process.stdin.flush()

    def working(self, rounds: int) -> int:
        """A live worker that has completed at least `rounds` iterations."""

        def found() -> list[int]:
            return [pid for pid, count in self._acknowledged.items() if count >= rounds and pid not in self._dead]

        with self._changed:
            assert self._changed.wait_for(found, timeout=60), "no worker is left"
            return random.choice(found())  # noqa: S311

    def kill(self, pid: int) -> None:
        self._dead.add(pid)
        os.kill(pid, signal.SIGKILL)

    def __enter__(self) -> WorkerPool:
        return self

    def __exit__(self, *_: object) -> None:
        """The remaining workers stop when their parent is gone; the last of them closes the pipe."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()
        self._reader.join()
        assert self._process.stdout is not None
        self._process.stdout.close()


def contents(store: LmdbStore) -> tuple[dict[bytes, Ticket], set[tuple[int, bytes]]]:
    """The tickets by name, and the entries of the due index, as stored in the environment."""
    with store._env.begin() as txn:
        tickets = {
            raw[1:]: store._codec.row(raw, value) for raw, value in txn.cursor(store._rows) if raw[:1] == TICKET.tag
        }
        due = {(int.from_bytes(entry[:4], "big"), entry[5:]) for entry, _ in txn.cursor(store._due)}
    return tickets, due


async def test_a_hundred_killed_workers_lose_no_row_and_answer_none_twice(memory_directory: Path) -> None:
    with WorkerPool(memory_directory) as pool:
        for _ in range(WORKERS):
            pool.fork()
        for _ in range(KILLS):
            pool.kill(pool.working(rounds=random.randint(1, 3)))  # noqa: S311
            pool.fork()

    store = open_store(memory_directory)
    await store.clean()
    await store.check()
    created = [name for names, _ in pool.lines for name in names.split(b",") if name]
    answered = [name for _, names in pool.lines for name in names.split(b",") if name]
    rows, due = contents(store)
    assert len(created) > KILLS
    assert set(created) <= rows.keys()
    assert len(answered) == len(set(answered)) > KILLS
    assert all(rows[name] == Ticket("answered", 0, 1) for name in answered)
    assert all(row.answers == (row.state == "answered") for row in rows.values())
    assert due == {(row.due, name) for name, row in rows.items() if row.due}
    tally = await store.get(COUNT)
    assert tally.count == sum(row.answers for row in rows.values()) == (await store.read_end_log(None)).position
    store.close()
