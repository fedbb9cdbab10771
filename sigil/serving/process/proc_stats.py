"""Figures of the processes of a service, read from /proc (Linux) at each scrape: the master and all that it started."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass
class ProcessFigures:
    """CPU time in seconds (of processes that ended, too), memory in bytes, the start as a Unix time in seconds."""

    count: int = 0
    cpu_seconds: float = 0.0
    resident_bytes: int = 0
    open_files: int = 0
    started: float = 0.0


def of_family(master: int) -> ProcessFigures:
    """The sums over a process and its children; empty where there is no /proc."""
    figures = ProcessFigures()
    for pid in (master, *_children(master)):
        # A process may end while it is looked at.
        with contextlib.suppress(OSError, ValueError, IndexError):
            _add(figures, pid, reaped=pid == master)
    return figures


def _children(pid: int) -> Iterator[int]:
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            yield from map(int, path.read_text().split())


def _add(figures: ProcessFigures, pid: int, *, reaped: bool) -> None:
    folder = Path(f"/proc/{pid}")
    # What stands behind the name in brackets, which may hold anything: proc(5), from field 3 on.
    fields = (folder / "stat").read_text().rpartition(") ")[2].split()
    times = fields[11:15] if reaped else fields[11:13]
    figures.cpu_seconds += sum(map(int, times)) / _TICKS
    figures.resident_bytes += int(fields[21]) * _PAGE
    # Not of a process that may not be looked into: see `secrecy`.
    with contextlib.suppress(PermissionError):
        figures.open_files += len(list((folder / "fd").iterdir()))
    if reaped:
        figures.started = _boot_time() + int(fields[19]) / _TICKS
    figures.count += 1


def _boot_time() -> float:
    for line in Path("/proc/stat").read_text().splitlines():
        if line.startswith("btime "):
            return float(line.split()[1])
    return 0.0
