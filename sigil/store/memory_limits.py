"""Memory limits of the store. A map larger than the memory is a SIGBUS or a kill under load, long after the start."""

from __future__ import annotations

import os
import resource
from pathlib import Path

PROCESS_MEMORY = 64 << 20
"""Bytes that the store must leave to each worker, and as much to the master. Idle, they have 48 and 42 MiB."""


class MemoryLimits:
    """The limits of this host; the paths are arguments for tests.

    `membership` lists the control groups of this process, `groups` is their mount point, `memory` is /proc/meminfo.
    """

    def __init__(
        self,
        membership: Path = Path("/proc/self/cgroup"),
        groups: Path = Path("/sys/fs/cgroup"),
        memory: Path = Path("/proc/meminfo"),
    ) -> None:
        self._membership = membership
        self._groups = groups
        self._memory = memory

    def problem(self, size: int, directory: int, data_file: str, workers: int = 1) -> str | None:
        """Why a map of `size` bytes and `workers` do not fit into the open `directory` and memory; None if they fit."""
        missing = size - _allocated(directory, data_file)
        free = _free(directory, data_file)
        if free is not None and size > free:
            return f"its file system has {free} free bytes: set a smaller SIGIL_STORE_SIZE or mount a larger tmpfs"
        working = (workers + 1) * PROCESS_MEMORY
        limit = self.memory_limit()
        if limit is not None and size + working > limit:
            return (
                f"the memory limit of {limit} bytes must leave {working} for the master and its workers: "
                "set a smaller SIGIL_STORE_SIZE, a smaller SIGIL_WORKERS or a higher limit"
            )
        available = self.available_memory()
        if available is not None and missing > 0 and missing + working > available:
            return (
                f"the host has {available} bytes of available memory, and must leave {working} for the master and its "
                "workers: set a smaller SIGIL_STORE_SIZE or SIGIL_WORKERS"
            )
        file_limit = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
        if file_limit != resource.RLIM_INFINITY and size > file_limit:
            return (
                f"files may not exceed {file_limit} bytes (ulimit -f): "
                "set a smaller SIGIL_STORE_SIZE or raise the limit"
            )
        return None

    def available_memory(self) -> int | None:
        """MemAvailable of the host, in bytes: without this check, allocating the store would start the OOM killer."""
        try:
            lines = self._memory.read_text().splitlines()
        except OSError:
            return None
        return next((int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable:")), None)

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
            return _limits_of_ancestors(self._groups / "memory", path, "memory.limit_in_bytes")
        if number == "0" and not controllers:
            return _limits_of_ancestors(self._groups, path, "memory.max")
        return []


def _free(directory: int, data_file: str) -> int | None:
    """Bytes available to the map: free ones, and those of an earlier map. None: the file system has no limit."""
    status = os.fstatvfs(directory)
    if status.f_blocks == 0:
        return None
    return status.f_bavail * status.f_frsize + _allocated(directory, data_file)


def _allocated(directory: int, data_file: str) -> int:
    """Bytes of an earlier map that are backed already."""
    try:
        return os.stat(data_file, dir_fd=directory, follow_symlinks=False).st_blocks * 512
    except FileNotFoundError:
        return 0


def _limits_of_ancestors(root: Path, path: str, name: str) -> list[int]:
    """The limits of a group and its parents. Inside a container the path may be the host's: then the root applies."""
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
