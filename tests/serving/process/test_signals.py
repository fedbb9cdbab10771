"""What signals do to the processes of a service, and what a service does with the dispositions that it inherits."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from sigil.serving.inherited import signals
from tests.serving.running import ROOT, Running, alive, eventually

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the signals of Linux")

FAULTS = {
    signal.SIGILL,
    signal.SIGTRAP,
    signal.SIGABRT,
    signal.SIGBUS,
    signal.SIGFPE,
    signal.SIGSEGV,
    signal.SIGSYS,
    signal.SIGKILL,
}
STOPPING = {signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU}
IGNORED_BY_DEFAULT = {signal.SIGCHLD, signal.SIGCONT, signal.SIGURG, signal.SIGWINCH}


def test_every_signal_has_a_row() -> None:
    """A new signal of the system must not end a master by its default."""
    rows = [set(signals.DRAIN), {signals.RELOAD}, set(signals.IGNORED), FAULTS, STOPPING, IGNORED_BY_DEFAULT]
    assert set.union(*rows) == signal.valid_signals()
    assert sum(map(len, rows)) == len(signal.valid_signals())


@pytest.mark.parametrize("number", sorted(signals.DRAIN), ids=lambda number: number.name)
def test_a_signal_that_drains_ends_the_service_after_its_requests(tmp_path: Path, number: signal.Signals) -> None:
    with Running(tmp_path, workers=1) as server:
        server.ready()
        assert server.terminate(number) == 0
        assert server.events("draining")
        assert len(server.events("app_shutdown")) == 1


def test_other_signals_end_neither_master_nor_worker(tmp_path: Path) -> None:
    with Running(tmp_path, workers=1) as server:
        (worker,) = server.ready()
        for number in sorted(signals.IGNORED):
            server.send(number)
            if number != signal.SIGUSR1:  # By which the master drains a worker.
                os.kill(worker, number)
        # A terminal sends these to the whole group.
        for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGPWR):
            os.kill(worker, number)
        assert server.get().headers["x-pid"] == str(worker)
        assert server.terminate() == 0
        assert not server.events("worker_died")


def test_a_worker_over_its_limit_of_cpu_time_drains_and_is_replaced(tmp_path: Path) -> None:
    with Running(tmp_path, workers=1) as server:
        (worker,) = server.ready()
        os.kill(worker, signal.SIGXCPU)
        eventually(lambda: server.ready() != {worker}, "another worker")
        assert server.events("worker_died")[0]["exit"] == 0
        assert server.terminate() == 0


def all_ignored() -> None:
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_IGN)


def all_blocked() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())


@pytest.mark.parametrize("inherit", [all_ignored, all_blocked])
def test_inherited_signals_change_nothing(tmp_path: Path, inherit: Callable[[], None]) -> None:
    with Running(tmp_path, inherit=inherit) as server:
        before = server.ready()
        os.kill(min(before), signal.SIGKILL)
        after = eventually(lambda: (pids := server.ready()) != before and pids, "a killed worker is replaced")
        assert server.events("worker_died")[0]["exit"] == "SIGKILL"
        server.send(signal.SIGHUP)
        eventually(lambda: server.events("reload_finished"), "the reload")
        assert not after & server.ready()
        # The workers that were replaced got the signal that the master sends them.
        eventually(lambda: not any(map(alive, after)), "the end of the former workers")
        assert not server.events("worker_killed")
        assert server.terminate() == 0


def test_a_signal_before_the_service_is_ready_is_neither_lost_nor_an_error(tmp_path: Path) -> None:
    # Blocked, so that the signals arrive at a moment that the test knows: before the first line of the program.
    def sent_to_itself() -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
        os.kill(os.getpid(), signal.SIGHUP)

    with Running(tmp_path, inherit=sent_to_itself) as server:
        eventually(lambda: server.events("reload_finished"), "the reload that was waiting")
        server.ready()
        assert server.terminate() == 0


_EARLY = """
import os, signal, sys
from sigil.serving.inherited import signals
signals.set_for_master()
os.kill(os.getpid(), signal.SIGHUP)
os.kill(os.getpid(), getattr(signal, sys.argv[1]))
print("not ended")
"""


@pytest.mark.parametrize("number", sorted(signals.DRAIN), ids=lambda number: number.name)
def test_a_signal_that_drains_ends_a_service_that_starts(number: signal.Signals) -> None:
    done = subprocess.run([sys.executable, "-c", _EARLY, number.name], cwd=ROOT, capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


_WHILE_IT_LOADS = """
import importlib, os, signal, sys

program, name_of_signal = sys.argv[1:]
sys.argv[1:] = ["serve"]

class Signalling:
    def find_spec(self, name, path=None, target=None):
        if name == "click":
            os.kill(os.getpid(), getattr(signal, name_of_signal))

sys.meta_path.insert(0, Signalling())
importlib.import_module(f"{program}.cli").main()
"""


@pytest.mark.parametrize("program", ["sigil", "relay"])
@pytest.mark.parametrize(("name", "code"), [("SIGHUP", 1), ("SIGUSR1", 1), ("SIGTERM", 0)])
def test_a_signal_while_the_program_loads_waits(program: str, name: str, code: int) -> None:
    """The settings are wrong, so that the exit code is 1 where the program goes on."""
    command = [sys.executable, "-c", _WHILE_IT_LOADS, program, name]
    environ = {"PATH": os.environ["PATH"], "LOG_LEVEL": "wrong"}
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, check=False, timeout=120)
    assert done.returncode == code
    assert (b"LOG_LEVEL: must be one of" in done.stderr) == bool(code)
