"""CPU and memory of the processes of a load test, from /proc."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Use:
    """The usage of one process between two samples."""

    cores: float
    peak_mib: float


@dataclass(frozen=True)
class Usage:
    """The usage between two samples in cores: of each process that was alive at the second, and of the whole machine.

    `gone` has the names of the processes that had ended.
    """

    processes: dict[str, Use]
    machine: float
    gone: list[str]

    def cores(self, prefix: str) -> float:
        return sum(use.cores for name, use in self.processes.items() if name.startswith(prefix))

    def lines(self) -> Iterable[str]:
        for name, use in self.processes.items():
            yield f"{name:<16} {use.cores:6.1%} of a core   peak {use.peak_mib:5.0f} MiB"


@dataclass(frozen=True)
class _Sample:
    at: float
    cpu: dict[str, float]
    machine: float


class ProcessUsage:
    """Named processes. `sample` reads their usage; `between` returns the usage between two samples."""

    def __init__(self, pids: Mapping[str, int]) -> None:
        self._pids = dict(pids)
        self._peaks: dict[str, float] = {}
        self._samples: list[_Sample] = []

    def watch(self, name: str, pid: int) -> None:
        self._pids[name] = pid

    def sample(self) -> None:
        cpu = {}
        for name, pid in self._pids.items():
            try:
                cpu[name] = _cpu_ticks(pid) / _TICKS
                self._peaks[name] = _peak_mib(pid)
            except (OSError, ValueError, IndexError):  # It has ended, or is ending and has no memory left.
                cpu.pop(name, None)
        self._samples.append(_Sample(time.time(), cpu, machine_seconds()))

    def between(self, begin: float = 0.0, end: float = float("inf")) -> Usage:
        """Unix times: from the last sample before `begin`, or the first, to the last one before `end`, or the last."""
        first = max((s for s in self._samples if s.at <= begin), key=lambda s: s.at, default=self._samples[0])
        last = max((s for s in self._samples if first.at < s.at <= end), key=lambda s: s.at, default=self._samples[-1])
        seconds = last.at - first.at or 1.0
        cores = {name: (cpu - first.cpu.get(name, 0.0)) / seconds for name, cpu in last.cpu.items()}
        processes = {name: Use(share, self._peaks[name]) for name, share in cores.items()}
        gone = [name for name in first.cpu if name not in last.cpu]
        return Usage(processes, (last.machine - first.machine) / seconds, gone)


def server_processes(master: int, workers: list[int]) -> dict[str, int]:
    return {"server master": master, **{f"server worker {number}": pid for number, pid in enumerate(workers, 1)}}


def children(pid: int) -> list[int]:
    """Process ids of the children of a process's main thread, oldest first; empty if it has ended."""
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="utf-8").split()]
    except OSError:
        return []


def family_seconds(pid: int) -> float:
    """CPU time of a process, of its ended children and of all its running descendants."""
    return _family_ticks(pid) / _TICKS


def _family_ticks(pid: int) -> int:
    # Whole ticks: a sum of seconds depends on its order in the last digit, and a later one may be less.
    try:
        return _cpu_ticks(pid, slice(11, 15)) + sum(_family_ticks(child) for child in children(pid))
    except (OSError, IndexError):  # It has just ended.
        return 0


def _cpu_ticks(pid: int, fields: slice = slice(11, 13)) -> int:
    values = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return sum(int(value) for value in values[fields])


def _peak_mib(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def machine_seconds() -> float:
    """All CPU time that was not idle, including the time that a hypervisor took."""
    user, nice, system, _idle, _waiting, irq, softirq, stolen = (
        int(field) for field in Path("/proc/stat").read_text(encoding="utf-8").split(maxsplit=9)[1:9]
    )
    return (user + nice + system + irq + softirq + stolen) / _TICKS


class OtherProcesses:
    """The CPU time of processes that are neither this one nor its descendants, from now on."""

    def __init__(self) -> None:
        self._began, self._taken = time.perf_counter(), self._seconds()

    def cores(self) -> float:
        return max(0.0, self._seconds() - self._taken) / (time.perf_counter() - self._began)

    @staticmethod
    def _seconds() -> float:
        return machine_seconds() - family_seconds(os.getpid())
