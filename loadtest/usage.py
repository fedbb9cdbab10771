"""CPU and memory of the processes of a load run, from /proc."""

from __future__ import annotations

import os
import time
from pathlib import Path
from types import TracebackType

_TICKS = os.sysconf("SC_CLK_TCK")


class ProcessUsage:
    """Around a load run: `report` prints each process's share of a core, and its peak memory."""

    def __init__(self, master: int, workers: list[int]) -> None:
        self._pids = {"master": master, **{f"worker {n}": pid for n, pid in enumerate(workers, 1)}}
        self._pids["generator"] = os.getpid()

    def __enter__(self) -> ProcessUsage:
        self._since = time.monotonic()
        self._before = {name: _cpu_seconds(pid) for name, pid in self._pids.items()}
        return self

    def report(self) -> None:
        took = time.monotonic() - self._since
        for name, pid in self._pids.items():
            share = (_cpu_seconds(pid) - self._before[name]) / took
            print(f"{name:<10} {share:6.1%} of a core   peak {_peak_mib(pid):5.0f} MiB")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def _peak_mib(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024
