"""Keeping what is in memory out of core dumps and away from disks."""

from __future__ import annotations

import contextlib
import ctypes
import resource
import sys
from pathlib import Path

_PR_SET_DUMPABLE = 4


def forbid_core_dumps() -> None:
    """Of this process and its children; on Linux other processes of the same user may not look into this one either.

    A limit of 0 alone does not hold back a kernel that pipes cores to a collector (core(5)); that this process is not
    dumpable does.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def active_swap_devices(table: Path = Path("/proc/swaps")) -> list[str]:
    """Devices and files that memory may be written to; compressed memory (zram) is memory."""
    with contextlib.suppress(OSError):
        rows = table.read_text(encoding="utf-8", errors="replace").splitlines()[1:]
        return [name for name in (row.split()[0] for row in rows if row.strip()) if not name.startswith("/dev/zram")]
    return []
