"""The memory of the metrics of all workers."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
from pathlib import Path
from typing import Any

from sigil.serving.process.kept_open import KeptOpen
from sigil.serving.process.metrics_memory import MetricsMemory
from tests.flows.test_pushes import scrape
from tests.support.live import LiveServer, wait_until


def count(descriptor: KeptOpen, slot: int) -> None:
    """What one worker does: a process of its own, since prometheus_client decides once where it counts."""
    memory = MetricsMemory(descriptor.fds[0], 3)
    memory.count_in(slot)
    from prometheus_client import Counter, Gauge, Histogram

    Counter("handled", "Requests.", ["code"], registry=None).labels("200").inc(2)
    Gauge("open", "Connections.", multiprocess_mode="livesum", registry=None).set(5)
    Gauge("denied", "Rejected.", multiprocess_mode="livemax", registry=None).set(slot)
    Histogram("seconds", "Durations.", buckets=(1,), registry=None).observe(0.5)


def run_worker(memory: MetricsMemory, slot: int) -> None:
    process = multiprocessing.get_context("spawn").Process(target=count, args=(KeptOpen(memory.fd), slot))
    process.start()
    process.join()
    assert process.exitcode == 0


def samples(memory: MetricsMemory) -> dict[str, float]:
    return {sample.name: sample.value for metric in memory.collect() for sample in metric.samples}


def test_counters_outlive_their_process_and_gauges_do_not() -> None:
    dead: set[int] = set()
    memory = MetricsMemory.create(3)
    memory._live = lambda slot: slot not in dead
    run_worker(memory, 0)
    run_worker(memory, 2)
    found = samples(memory)
    assert (found["handled_total"], found["open"], found["denied"], found["seconds_count"]) == (4, 10, 2, 2)
    dead.add(2)
    found = samples(memory)
    assert (found["handled_total"], found["open"], found["denied"]) == (4, 5, 0)
    # The next process of a slot continues its counters, and starts with gauges of its own.
    memory.drop_live_gauges(2)
    dead.clear()
    assert samples(memory)["open"] == 5
    run_worker(memory, 2)
    found = samples(memory)
    assert (found["handled_total"], found["open"]) == (6, 10)


def test_a_slot_that_is_emptied_during_a_scrape_has_no_samples() -> None:
    memory = MetricsMemory.create(3)
    run_worker(memory, 0)
    listed = list(memory._names())
    memory.drop_live_gauges(0)
    memory._names = lambda: iter(listed)  # type: ignore[method-assign]
    found = samples(memory)
    assert found["handled_total"] == 2
    assert "open" not in found


def spoil(directory: Path) -> None:
    """What cleaners, other programs and full disks do to files that a server keeps."""
    shutil.rmtree(directory / "metrics", ignore_errors=True)
    shutil.rmtree(directory / "workers")
    (directory / "metrics").mkdir()
    (directory / "metrics" / "counter_0.db").touch()
    (directory / "metrics" / "gauge_livesum_0.db").write_bytes(b"\xff" * 100)
    (directory / "metrics" / "0.lock").mkdir()


def test_files_in_the_state_directory_stop_neither_metrics_nor_the_restart_of_a_worker() -> None:
    with LiveServer(workers=2, SIGIL_STORE_SIZE="16MiB") as server, server.client() as client:
        wait_until(lambda: len(server.workers()) == 2, "both workers")
        victim = server.workers()[0]
        health: Any = ("sigil_http_requests_total", (("method", "GET"), ("route", "/health"), ("status", "200")))
        before = scrape(client)[health]
        spoil(server.state)
        assert scrape(client)[health] >= before
        os.kill(victim, signal.SIGKILL)
        wait_until(lambda: server.log_path.read_text().count('"worker_ready"') == 3, "a new worker")
        # New connections, so that both workers answer.
        for _ in range(8):
            with server.client() as other:
                assert scrape(other)[health] >= before
