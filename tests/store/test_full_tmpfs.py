"""Other programs fill the tmpfs of the state directory: no worker dies of a page that cannot be backed (SIGBUS)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from sigil.store.adoption import Stamp
from sigil.store.memory_limits import MemoryLimits
from sigil.store.state_directory import StateDirectory
from tests.support.live import LiveServer

ROOT = Path(__file__).resolve().parents[2]
MiB = 1 << 20


@cache
def unshare() -> list[str]:
    """The command that runs another one in a mount namespace of its own; empty where that is not permitted."""
    for options in ([] if os.geteuid() == 0 else ["--map-root-user"], ["--map-root-user"]):
        command = ["unshare", "--mount", *options]
        probe = [*command, "sh", "-c", "mount -t tmpfs tmpfs /mnt"]
        try:
            if subprocess.run(probe, check=False, capture_output=True, timeout=30).returncode == 0:
                return command
        except OSError:
            pass
    return []


def run(folder: Path, when: str) -> dict[str, Any]:
    if not unshare():
        pytest.skip("needs the right to mount a tmpfs in a namespace")
    command = [*unshare(), sys.executable, "-m", "tests.store.full_tmpfs", str(folder), when]
    done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_a_tmpfs_that_is_full_kills_no_worker(tmp_path: Path) -> None:
    found = run(tmp_path, "after")
    assert found["filled"] > 4096
    assert (found["deaths"], found["same"]) == ([], True)
    assert set(found["statuses"]) == {"201"}, found
    assert found["metrics"] in {200, 401}
    # A worker that dies of another cause gets the memory of its predecessor.
    assert found["replaced"]


def test_a_store_that_does_not_fit_stops_the_start_with_the_remedy(tmp_path: Path) -> None:
    found = run(tmp_path, "before")
    assert found["exit"] == 1
    assert "SIGIL_STORE_SIZE" in found["output"]
    assert "mount a larger tmpfs" in found["output"]


def test_every_byte_of_the_files_that_workers_map_is_backed() -> None:
    webhook = {"WEBHOOK_URL": "http://127.0.0.1:9/", "WEBHOOK_SECRET": "x" * 32}
    with LiveServer(workers=2, SIGIL_STORE_SIZE="16MiB", **webhook) as server:
        mapped = [server.state / "data.mdb", server.state / "lock.mdb"]
        others = {path.name for path in server.state.iterdir()} - {"data.mdb", "lock.mdb"}
        assert others == {"lock", "stamp", "workers", "clock"}, "another file: is it mapped?"
        sparse = [path.name for path in mapped if path.stat().st_blocks * 512 < path.stat().st_size]
        assert sparse == []


class Small(MemoryLimits):
    def memory_limit(self) -> int | None:
        return None


def test_a_store_larger_than_the_available_memory_stops_the_start(memory_directory: Path, tmp_path: Path) -> None:
    """Allocating it would start the OOM killer. Memory that an earlier run has allocated counts as available."""
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal:       4000000 kB\nMemAvailable:   160000 kB\n")
    limits = Small(memory=meminfo)
    with StateDirectory.enter(memory_directory / "state", insecure=True) as state:
        with pytest.raises(Exception, match=r"available memory.*set a smaller SIGIL_STORE_SIZE"):
            state.prepare_store(size=64 * MiB, stamp=Stamp("1", "a"), limits=limits)
        state.prepare_store(size=16 * MiB, stamp=Stamp("1", "a"), limits=limits)
        meminfo.write_text("MemAvailable:   1000 kB\n")
        state.prepare_store(size=16 * MiB, stamp=Stamp("1", "a"), limits=limits)
        assert state.adopted
