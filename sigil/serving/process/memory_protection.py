"""Protection of memory against core dumps, other processes and swap."""

from __future__ import annotations

import contextlib
import ctypes
import resource
import sys
from pathlib import Path

_PR_SET_DUMPABLE = 4


def forbid_core_dumps() -> None:
    """For this process and its children; on Linux, processes of the same user may not inspect this one either.

    A limit of 0 does not stop a kernel that pipes cores to a collector (core(5)). Making the process not dumpable does.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def active_swap_devices(table: Path = Path("/proc/swaps")) -> list[str]:
    """Swap devices and files; compressed memory (zram) does not count, since it stays in memory."""
    with contextlib.suppress(OSError):
        rows = table.read_text(encoding="utf-8", errors="replace").splitlines()[1:]
        return [name for name in (row.split()[0] for row in rows if row.strip()) if not name.startswith("/dev/zram")]
    return []
