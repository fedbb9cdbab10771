"""Seconds since the boot: setting the time of day does not change them, and they include the time in suspension where
the system has such a clock."""

from __future__ import annotations

import time
from functools import partial

boot_seconds = partial(time.clock_gettime, getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))
