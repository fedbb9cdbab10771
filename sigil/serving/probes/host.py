"""What the host shows of its swap and its clock, for checks of both services."""

from __future__ import annotations

import ctypes
import datetime
import sys
from pathlib import Path

from sigil.console.findings.result import Result, ok, still_open
from sigil.serving.process.memory_protection import active_swap_devices

RELEASED = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
_CLOCK_UNSYNCHRONISED = 5
"""TIME_ERROR of adjtimex(2)."""


def check_swap(table: Path = Path("/proc/swaps")) -> Result:
    if devices := active_swap_devices(table):
        return still_open(
            "swap", f"{', '.join(devices)} is on: it can write derived keys to a disk",
            "turn swap off (`swapoff -a`), or encrypt it; memswap_limit keeps this container out of it",
        )  # fmt: skip
    return ok("swap", "off")


def clock_is_unsynchronised() -> bool:
    """Whether the kernel reports so; False where it reports nothing."""
    return _adjtimex() == _CLOCK_UNSYNCHRONISED


def _adjtimex() -> int:
    """The state of the clock; -1 if the kernel does not report it."""
    if sys.platform != "linux":
        return -1
    # struct timex has 208 bytes; modes 0 changes nothing.
    buffer = (ctypes.c_ulong * 64)()
    return int(ctypes.CDLL(None).adjtimex(ctypes.byref(buffer)))
