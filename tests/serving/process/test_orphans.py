"""A service that is PID 1 of a container reaps the processes of others."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.serving.running import Running, eventually

UNSHARE = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", *([] if os.geteuid() == 0 else ["-r"])]


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]


@pytest.mark.skipif(sys.platform != "linux", reason="namespaces of processes")
def test_pid_1_reaps_orphans_and_keeps_its_own_children(tmp_path: Path) -> None:
    with Running(tmp_path, workers=1, setup=f'set -- {" ".join(UNSHARE)} "$@"') as server:
        (master,) = eventually(lambda: server.spawned, "the process in the namespace")
        eventually(lambda: server.events("worker_ready"), "the worker")
        assert server.events("server_starting")[0]["pid"] == 1
        # `docker exec` of a shell that starts a program and ends. In a session of its own, as there: the orphans get a
        # parent in another process group, and if the group of these tests had a stopped process at the end of one of
        # them, the kernel would send SIGHUP to that whole group (setpgid(2), orphaned process groups).
        inside = ["nsenter", "--target", str(master), "--pid", "sh", "-c"]
        own = set(children(master))
        subprocess.run(
            [*inside, "for n in 1 2 3; do (sleep 0.2 &); done"], check=True, timeout=60, start_new_session=True
        )
        eventually(lambda: [p for p in set(children(master)) - own if state(p) == "Z"], "a zombie")
        eventually(lambda: set(children(master)) == own, "no zombies")
        (worker,) = [pid for pid in own if state(pid) != "Z" and b"resource_tracker" not in cmdline(pid)]
        os.kill(worker, 9)
        died = eventually(lambda: server.events("worker_died"), "the worker's own exit code")
        assert died[0]["exit"] == "SIGKILL"
        os.kill(master, 15)
        assert server.stopped() == 0


def cmdline(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()
