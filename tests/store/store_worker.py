"""Worker processes for the tests of the LMDB store: a script, controlled by its arguments and stdin.

compete PATH       wait for a line, answer every ticket and count each; print how many were won
pool PATH          for each line on stdin fork a worker that creates and answers until it is killed
hold PATH PLACE    stop inside a deciding transaction, in the "rule" or after its "writes"
read PATH          stop inside a reading transaction
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

import msgspec

import sigil.store.lmdb as implementation
from sigil.core.session_store import Decision, Key, Kind
from sigil.store.lmdb import LmdbStore


class Ticket(msgspec.Struct, frozen=True, array_like=True):
    state: str
    due: int
    answers: int = 0


class Tally(msgspec.Struct, frozen=True, array_like=True):
    count: int
    due: int = 0


TICKET = Kind(b"t", Ticket)
TALLY = Kind(b"n", Tally)
COUNT = Key(TALLY, b"")
SIZE = 512 << 20
BATCH = 8


def open_store(path: Path, size: int = SIZE) -> LmdbStore:
    return LmdbStore(path, size=size, kinds=[TICKET, TALLY], clock=time.time)


def ticket(number: int) -> Key:
    return Key(TICKET, b"%d" % number)


def answer(key: Key) -> Any:
    """A rule on (ticket, tally): answer a pending ticket and count it; True if this call did."""

    def rule(now: float, rows: tuple[Any, ...]) -> Decision[bool]:
        found, tally = rows
        if found.state != "pending":
            return Decision(False)
        count = 1 + (tally.count if tally else 0)
        return Decision(True, ((key, Ticket("answered", 0, found.answers + 1)), (COUNT, Tally(count))), (key.name,))

    return rule


async def compete(path: Path) -> None:
    store = open_store(path)
    keys = await store.due(10, 10_000)
    random.shuffle(keys)
    print("ready", flush=True)  # noqa: T201
    sys.stdin.readline()
    won = [await store.transact([key, COUNT], answer(key)) for key in keys]
    print(sum(won), flush=True)  # noqa: T201


async def create_and_answer(path: Path, parent: int) -> None:
    """Acknowledge in one atomic write to the pipe: `pid`, what was created, what this worker answered."""
    store = open_store(path)
    while os.getppid() == parent:
        created = [Key(TICKET, os.urandom(8).hex().encode()) for _ in range(BATCH)]
        writes = tuple((key, Ticket("pending", 1 + key.name[0])) for key in created)
        await store.transact([], lambda now, rows, writes=writes: Decision(None, writes))  # type: ignore[misc]
        # All workers compete for the same tickets, those that are due first.
        due = await store.due(1000, 2 * BATCH)
        answered = [key for key in due if await store.transact([key, COUNT], answer(key))]
        names = (b",".join(key.name for key in keys) for keys in (created, answered))
        os.write(1, b" ".join((b"%d" % os.getpid(), *names)) + b"\n")


def pool(path: Path) -> None:
    """Forks: a kill every few milliseconds leaves no time to start an interpreter for each worker."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    parent = os.getpid()
    for _ in sys.stdin:
        if os.fork() == 0:
            asyncio.run(create_and_answer(path, parent))
            os._exit(0)


def stop() -> NoReturn:
    os.write(1, b"stopped\n")
    while True:
        signal.pause()


async def hold(path: Path, place: str) -> None:
    store = open_store(path)

    def rule(now: float, rows: tuple[Any, ...]) -> Decision[None]:
        if place == "rule":
            stop()
        return Decision(None, ((ticket(0), Ticket("torn", 9)), (ticket(1), Ticket("torn", 9))), (b"torn",))

    # The ends are appended after the rows are written.
    implementation.append = lambda *_: stop()
    await store.transact([ticket(0)], rule)


def read(path: Path) -> None:
    with open_store(path)._env.begin():
        stop()


if __name__ == "__main__":
    task, where, *rest = sys.argv[1:]
    if task == "pool":
        pool(Path(where))
    elif task == "read":
        read(Path(where))
    else:
        asyncio.run(compete(Path(where)) if task == "compete" else hold(Path(where), rest[0]))
