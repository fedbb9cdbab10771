"""Steps the time of day of a real server, in all its processes, while the clock of the machine stays as it is."""

from __future__ import annotations

import os
import struct
from pathlib import Path

# Python imports it at the start of every process of the server: of the master, and of each worker that it spawns.
_SITE_CUSTOMIZE = """
import os, struct, time
_file, _real = os.open(os.environ["TEST_CLOCK_FILE"], os.O_RDONLY), time.time
time.time = lambda: _real() + struct.unpack("d", os.pread(_file, 8, 0))[0]
"""


class SteppedClock:
    """The clock of servers with these `settings`; `directory` is for its two files."""

    def __init__(self, directory: Path) -> None:
        self._file = directory / "offset"
        self._highest = 0.0
        self.begin = 0.0
        self.set(0)
        (directory / "sitecustomize.py").write_text(_SITE_CUSTOMIZE)
        self.settings = {"PYTHONPATH": str(directory), "TEST_CLOCK_FILE": str(self._file)}

    def new_test(self) -> None:
        """Later steps count from the latest time of day so far: the order of the tests of one server has no effect."""
        self.begin = self._highest
        self.set(0)

    def set(self, seconds: float) -> None:
        """The servers' time of day is that of the machine, plus `begin`, plus these seconds, from now on."""
        seconds += self.begin
        self._highest = max(self._highest, seconds)
        file = os.open(self._file, os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            # One write of eight bytes: a reader never sees a part of it.
            os.pwrite(file, struct.pack("d", seconds), 0)
        finally:
            os.close(file)
