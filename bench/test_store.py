"""The session store on tmpfs with 5000 pending challenges: one process, and two at the same time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from statistics import mean

import pytest

from bench.measuring import Measure
from bench.peer import Peer
from bench.store_tasks import TASKS, Put, Task, open_store
from sigil.store.lmdb import LmdbStore

_PENDING = 5_000
# Operations in one run of a task: the sweep takes 60 at a time.
_COUNTS = {"put": 100, "answer": 100, "expire": 60}
# The cost includes the action: this is the one of the README.
_ACTION = b'{"description":"Sign in to Example","type":"login"}'


@pytest.fixture
def store(memory_directory: Path) -> Iterator[LmdbStore]:
    store = open_store(memory_directory)
    _fill(Put(store, _PENDING))
    yield store
    store.close()


def _fill(put: Put) -> None:
    put.prepare()
    put.run()


@pytest.mark.parametrize("task", TASKS)
def test_store(measure: Measure, store: LmdbStore, task: str) -> None:
    count = _COUNTS[task]
    own: Task = TASKS[task](store, count)
    measure(own.run, operations=count, rounds=300, prepare=own.prepare)


@pytest.mark.parametrize("task", TASKS)
def test_store_of_two_processes(measure: Measure, store: LmdbStore, memory_directory: Path, task: str) -> None:
    """The time of both processes divided by the operations of both: it includes the waits for each other."""
    count = _COUNTS[task]
    with Peer(memory_directory, task, count, TASKS[task](store, count)) as both:
        measure(both.run, operations=2 * count, rounds=600, prepare=both.prepare)


def test_bytes_of_a_pending_challenge(measure: Measure, memory_directory: Path) -> None:
    """Including its ledger and indices."""

    def cost() -> float:
        store = open_store(memory_directory)
        empty, costs = store.usage().used, []
        for thousands in range(1, 21):
            _fill(Put(store, 1000, action=_ACTION))
            costs.append((store.usage().used - empty) / (1000 * thousands))
        store.close()
        # Pages that fill at the same pace split at the same time, so the cost swings around its mean.
        return mean(costs[7:])

    measure.count(cost)
