"""The rules of the watchdog, with beats and times that the test sets and processes that exist."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from sigil.serving.watchdog.process_table import Cause, Peer, ProcessTable, Row
from sigil.serving.watchdog.watchdog import Watchdog

LIMIT = 10


@dataclass
class Worker:
    pid: int
    row: Row


@pytest.fixture
def sleeping() -> Iterator[list[int]]:
    """Three processes that wait in a read, as a worker does that waits for a lock."""
    processes = [
        subprocess.Popen([sys.executable, "-S", "-c", "input()"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
        for _ in range(3)
    ]
    deadline = time.monotonic() + 60
    while any(state(process.pid) != "S" for process in processes) and time.monotonic() < deadline:
        time.sleep(0.02)
    yield [process.pid for process in processes]
    for process in processes:
        process.kill()
        process.communicate()


def state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]


def stop(pid: int) -> None:
    os.kill(pid, signal.SIGSTOP)
    while state(pid) != "T":
        time.sleep(0.01)


class Run:
    """A watchdog over workers, and the passing of time: `killed` are (second, index of the worker)."""

    def __init__(self, pids: list[int]) -> None:
        table = ProcessTable.create(len(pids))
        self.workers = [Worker(pid, row) for pid, row in zip(pids, table.rows, strict=True)]
        self.watchdog: Watchdog[Worker] = Watchdog(LIMIT)
        self.now = 1000.0
        self.killed: list[tuple[int, int]] = []

    def seconds(self, count: int, silent: set[int]) -> None:
        for _ in range(count):
            self.now += 1
            for index, worker in enumerate(self.workers):
                if index not in silent:
                    worker.row.beat()
            alive = [worker for i, worker in enumerate(self.workers) if i not in {victim for _, victim in self.killed}]
            for victim in self.watchdog.hung(alive, self.now):
                self.killed.append((round(self.now - 1000), self.workers.index(victim)))

    @property
    def victims(self) -> list[int]:
        return [index for _, index in self.killed]


def test_a_silent_worker_is_killed_after_the_limit_and_no_other(sleeping: list[int]) -> None:
    run = Run(sleeping)
    run.seconds(5, set())
    run.seconds(LIMIT - 1, {1})
    assert run.killed == []
    run.seconds(60, {1})
    assert run.killed == [(15, 1)]


def test_the_holder_of_the_lock_is_killed_first_and_the_others_beat_again(sleeping: list[int]) -> None:
    run = Run(sleeping)
    run.seconds(5, set())
    run.workers[2].row.writing[0] = 1
    run.seconds(LIMIT, {0, 1, 2})
    assert run.victims == [2]
    run.seconds(4, {0, 1})
    run.seconds(60, set())
    assert run.victims == [2]


def test_a_holder_that_became_silent_last_is_still_killed_first(sleeping: list[int]) -> None:
    run = Run(sleeping)
    run.seconds(5, set())
    run.seconds(4, {0, 1})
    run.workers[2].row.writing[0] = 1
    run.seconds(LIMIT, {0, 1, 2})
    assert run.victims == [2]


def test_of_silent_workers_without_a_holder_the_stopped_one_is_killed_first(sleeping: list[int]) -> None:
    stop(sleeping[1])
    run = Run(sleeping)
    run.seconds(5, set())
    run.seconds(LIMIT + 1, {0, 1, 2})
    assert run.victims == [1]


def test_silent_workers_are_killed_one_at_a_time(sleeping: list[int]) -> None:
    run = Run(sleeping)
    run.seconds(5, set())
    run.seconds(60, {0, 1, 2})
    assert sorted(run.victims) == [0, 1, 2]
    seconds = [second for second, _ in run.killed]
    assert [after - before for before, after in itertools.pairwise(seconds)] == [LIMIT / 2] * 2


def test_a_pause_of_the_master_counts_for_two_seconds(sleeping: list[int]) -> None:
    run = Run(sleeping)
    run.seconds(5, set())
    run.now += 86_400
    run.seconds(5, {0, 1, 2})
    run.seconds(60, set())
    assert run.killed == []


def test_a_worker_that_the_machine_does_not_run_gets_six_times_the_limit() -> None:
    # This process is runnable whenever it reads its own state.
    run = Run([os.getpid()])
    run.seconds(5, set())
    run.seconds(5 * LIMIT, {0})
    assert run.killed == []
    run.seconds(2 * LIMIT, {0})
    assert run.killed == [(5 + 6 * LIMIT, 0)]


def test_counts_of_lines_continue_with_the_next_worker_of_a_row() -> None:
    table = ProcessTable.create(2)
    first = table.rows[table.free_row()]
    first.take()
    first.dropped[0] += 3
    first.writing[0] = 1
    first.release()
    assert table.rows[table.free_row()] is first
    assert not first.writing[0]
    table.master_dropped[0] += 1
    table.count_restart(Cause.HUNG)
    seen_by_worker = ProcessTable(table.fd, 2).figures()
    assert seen_by_worker.lines_dropped == 4
    assert seen_by_worker.restarts == {"died": 0, "hung": 1, "not_ready": 0}


def test_the_newest_answer_of_the_peer_counts_and_goes_with_its_worker() -> None:
    table = ProcessTable.create(2)
    first, second = table.rows
    assert table.figures().peer is None
    first.saw_peer(Peer(-3_600_000, 1_900_000_000))
    second.saw_peer(Peer(250, None))
    assert ProcessTable(table.fd, 2).figures().peer == Peer(250, None)
    first.saw_peer(Peer(-1, 1_900_000_000))
    assert table.figures().peer == Peer(-1, 1_900_000_000)
    first.release()
    assert table.figures().peer == Peer(250, None)


def test_what_the_master_knows_is_seen_by_workers() -> None:
    table = ProcessTable.create(2)
    begun = ProcessTable(table.fd, 2).figures()
    assert (begun.reload_failed, begun.certificate_ends) == (False, None)
    assert abs(begun.reloaded_at - time.time()) < 60
    table.record_reload(1_900_000_000, failed=True)
    table.serve_certificate_until(2_000_000_000)
    seen = ProcessTable(table.fd, 2).figures()
    assert (seen.reloaded_at, seen.reload_failed, seen.certificate_ends) == (1_900_000_000, True, 2_000_000_000)


def test_a_hung_writer_is_one_that_holds_the_lock_and_is_silent() -> None:
    table = ProcessTable.create(2)
    row = table.rows[1]
    row.take()
    # A worker that starts opens the store before its first beat.
    row.writing[0] = 1
    assert not table.hung_writer(60)
    assert table.hung_writer(0)
    row.writing[0] = 0
    assert not table.hung_writer(0)
