"""Statistics of the processes of a service, from /proc (Linux) at each scrape: the master and its children."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
# In ticks since the boot of the host.
_STARTED = 19


@dataclass
class ProcessStats:
    """CPU time in seconds (ended processes included), memory in bytes, the start as a Unix time in seconds."""

    count: int = 0
    cpu_seconds: float = 0.0
    resident_bytes: int = 0
    open_files: int = 0
    started: float = 0.0


def of_family(master: int) -> ProcessStats:
    """The sums over a process and its children; empty where there is no /proc."""
    stats = ProcessStats()
    for pid in (master, *children(master)):
        # A process may end while it is read.
        with contextlib.suppress(OSError, ValueError, IndexError):
            _add(stats, pid, reaped=pid == master)
    return stats


def start_of_master() -> int:
    """Called in a worker: a number that differs between starts of the service. In a container each master is PID 1."""
    try:
        return int(_stat(os.getppid())[_STARTED])
    except (OSError, ValueError, IndexError):
        return os.getppid()


def children(pid: int) -> Iterator[int]:
    """Of a process, zombies too; none where there is no /proc."""
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            yield from map(int, path.read_text().split())


def _add(stats: ProcessStats, pid: int, *, reaped: bool) -> None:
    folder = Path(f"/proc/{pid}")
    fields = _stat(pid)
    times = fields[11:15] if reaped else fields[11:13]
    stats.cpu_seconds += sum(map(int, times)) / _TICKS
    stats.resident_bytes += int(fields[21]) * _PAGE
    stats.open_files += _open_files(folder / "fd")
    if reaped:
        stats.started = _boot_time() + int(fields[_STARTED]) / _TICKS
    stats.count += 1


def _stat(pid: int) -> list[str]:
    # The fields after the name in parentheses, which may contain any character: proc(5), from field 3 on.
    return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()


def _open_files(folder: Path) -> int:
    """Other processes are not dumpable (see `memory_protection`): only root may list their files. The size of the
    folder is their number since Linux 6.2, and 0 before.
    """
    try:
        return len(list(folder.iterdir()))
    except PermissionError:
        return folder.stat().st_size


def _boot_time() -> float:
    for line in Path("/proc/stat").read_text().splitlines():
        if line.startswith("btime "):
            return float(line.split()[1])
    return 0.0


def is_zombie(pid: int) -> bool:
    try:
        return _stat(pid)[0] == "Z"
    except (OSError, IndexError):
        return False
