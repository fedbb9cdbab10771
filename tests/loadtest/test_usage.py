"""CPU and memory of processes between two samples."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from loadtest.usage import ProcessUsage, children, family_seconds
from tests.support.live import wait_until

_BUSY = "import time\nprint(flush=True)\nwhile True: pass"


def test_usage_has_the_cpu_of_a_busy_process_and_names_one_that_ended() -> None:
    with subprocess.Popen([sys.executable, "-c", _BUSY], stdout=subprocess.PIPE) as busy:
        try:
            assert busy.stdout is not None
            busy.stdout.readline()
            assert busy.pid in children(os.getpid())
            usage = ProcessUsage({"busy": busy.pid})
            usage.watch("idle", os.getpid())
            usage.sample()
            before = family_seconds(busy.pid)
            wait_until(lambda: family_seconds(busy.pid) > before + 0.2, "the child to compute")
            usage.sample()
        finally:
            busy.kill()
    used = usage.between()
    assert used.processes["busy"].cores > used.processes["idle"].cores
    assert used.processes["busy"].peak_mib > 1
    assert used.gone == []
    usage.sample()
    assert usage.between().gone == ["busy"]


def test_only_samples_of_the_given_seconds_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """With exact times: one tick of 10 ms between two real samples may look like a hundred cores."""
    times, ticks = iter([100.0, 110.0, 120.0]), iter([0, 800, 900])
    second = os.sysconf("SC_CLK_TCK")
    monkeypatch.setattr("loadtest.usage.time.time", lambda: next(times))
    monkeypatch.setattr("loadtest.usage._cpu_ticks", lambda pid: next(ticks) * second / 100)
    usage = ProcessUsage({"here": os.getpid()})
    for _ in range(3):
        usage.sample()
    assert usage.between().cores("here") == pytest.approx(9 / 20)
    assert usage.between(end=110.0).cores("here") == usage.between(end=119.0).cores("here") == pytest.approx(0.8)
    assert usage.between(begin=110.0).cores("here") == usage.between(begin=119.0).cores("here") == pytest.approx(0.1)


def test_family_seconds_include_running_and_ended_children() -> None:
    before = family_seconds(os.getpid())
    with subprocess.Popen([sys.executable, "-c", _BUSY], stdout=subprocess.PIPE) as busy:
        try:
            wait_until(lambda: family_seconds(busy.pid) > 0.2, "the child to compute")
            running = family_seconds(os.getpid())
        finally:
            busy.kill()
    assert running >= before + 0.2
    assert family_seconds(os.getpid()) >= running
