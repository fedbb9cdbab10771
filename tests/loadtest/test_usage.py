"""CPU and memory of processes between two samples."""

from __future__ import annotations

import os
import subprocess
import sys
import time

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


def test_only_samples_of_the_given_seconds_count() -> None:
    usage = ProcessUsage({"here": os.getpid()})
    usage.sample()
    end = time.process_time() + 0.1
    while time.process_time() < end:
        pass
    usage.sample()
    after = time.time()
    usage.sample()
    assert usage.between(end=after).cores("here") > 0
    assert usage.between(begin=after).cores("here") < usage.between(end=after).cores("here")


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
