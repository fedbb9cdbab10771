"""A directory in memory for each test, as in production."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from sigil.store.state_directory import file_system

TMPFS = 0x01021994


@pytest.fixture
def memory_directory() -> Iterator[Path]:
    """An empty directory on tmpfs; on another file system if this host has no tmpfs."""
    memory = Path("/dev/shm")
    path = Path(tempfile.mkdtemp(prefix="sigil-test-", dir=memory if memory.is_dir() else None))
    yield path
    shutil.rmtree(path)


@pytest.fixture
def tmpfs_directory(memory_directory: Path) -> Path:
    directory = os.open(memory_directory, os.O_RDONLY)
    try:
        kind = file_system(directory)
    finally:
        os.close(directory)
    if kind != TMPFS:
        pytest.skip("this host has no tmpfs at /dev/shm")
    return memory_directory
