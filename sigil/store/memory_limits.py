"""Is there room for the store? A map larger than its memory is a SIGBUS or a kill under load, long after the start."""

from __future__ import annotations

import os
import resource
from pathlib import Path

WORKING_MEMORY = 128 << 20
"""Bytes of a memory limit that the store must leave to a master and two workers."""


class MemoryLimits:
    """The limits of this host; the paths are arguments for tests.

    `membership` names the control groups of this process, `groups` is where they are mounted.
    """

    def __init__(self, membership: Path = Path("/proc/self/cgroup"), groups: Path = Path("/sys/fs/cgroup")) -> None:
        self._membership = membership
        self._groups = groups

    def problem(self, size: int, directory: int, data_file: str) -> str | None:
        """Why a map of `size` bytes does not fit the directory that is open as `directory`; None if it does."""
        free = _free(directory, data_file)
        if free is not None and size > free:
            return f"its file system has room for {free} bytes: set a smaller SIGIL_STORE_SIZE or mount a larger tmpfs"
        limit = self.memory_limit()
        if limit is not None and size + WORKING_MEMORY > limit:
            return (
                f"the memory limit of {limit} bytes has to leave {WORKING_MEMORY} for the workers: "
                "set a smaller SIGIL_STORE_SIZE or a higher limit"
            )
        longest = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
        if longest != resource.RLIM_INFINITY and size > longest:
            return (
                f"files may not exceed {longest} bytes (ulimit -f): set a smaller SIGIL_STORE_SIZE or raise the limit"
            )
        return None

    def memory_limit(self) -> int | None:
        """The lowest limit of the process's control groups and their parents, in bytes; None without one."""
        try:
            lines = self._membership.read_text().splitlines()
        except OSError:
            return None
        limits = [limit for line in lines for limit in self._limits(*line.split(":", 2))]
        return min(limits, default=None)

    def _limits(self, number: str, controllers: str, path: str) -> list[int]:
        if "memory" in controllers.split(","):
            return _chain(self._groups / "memory", path, "memory.limit_in_bytes")
        if number == "0" and not controllers:
            return _chain(self._groups, path, "memory.max")
        return []


def _free(directory: int, data_file: str) -> int | None:
    """Bytes for the map: free ones, and those that an earlier map holds. None: the file system has no bound."""
    system = os.fstatvfs(directory)
    if system.f_blocks == 0:
        return None
    try:
        held = os.stat(data_file, dir_fd=directory, follow_symlinks=False).st_blocks * 512
    except FileNotFoundError:
        held = 0
    return system.f_bavail * system.f_frsize + held


def _chain(root: Path, path: str, name: str) -> list[int]:
    """The limits of a group and its parents. Inside a container the path may be the host's: then the root is ours."""
    parts = [part for part in path.split("/") if part]
    if ".." in parts:
        parts = []
    files = [root.joinpath(*parts[:depth], name) for depth in range(len(parts) + 1)]
    return [limit for file in files if (limit := _limit(file)) is not None]


def _limit(file: Path) -> int | None:
    try:
        text = file.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdecimal() else None
