"""The lock of a server on its directory."""

from __future__ import annotations

import fcntl
import threading
from pathlib import Path

import pytest

from sigil.serving.files.lock import lock_of_server


def test_a_command_that_has_the_lock_for_a_moment_does_not_make_a_start_fail(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with path.open("w") as command, path.open() as server:
        fcntl.flock(command, fcntl.LOCK_SH)
        release = threading.Timer(0.2, lambda: fcntl.flock(command, fcntl.LOCK_UN))
        release.start()
        lock_of_server(server.fileno())
        release.join()
        with pytest.raises(BlockingIOError):
            fcntl.flock(command, fcntl.LOCK_SH | fcntl.LOCK_NB)


def test_a_lock_that_another_server_keeps_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with path.open("w") as first, path.open() as second:
        lock_of_server(first.fileno())
        with pytest.raises(BlockingIOError):
            lock_of_server(second.fileno())
