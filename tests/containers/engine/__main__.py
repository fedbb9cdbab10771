"""`python -m tests.containers.engine COMMAND…`: runs the command beside a Docker engine of its own, and ends both.

Exit status: the command's; 2 when something is missing. `python -m tests.containers.engine bash` is for trying things.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

from tests.containers.engine import parts, requirements

# On a disk, unlike /tmp on many systems: images take 2 GB.
PLACE = Path("/var/tmp")
PREFIX = "sigil-engine-"


def main(command: list[str]) -> int:
    if problem := requirements.problem():
        sys.stderr.write(f"The container tests cannot run: {problem}\n")
        return 2
    remove_leftovers()
    # A root shell of `su` without `-` has the user's PATH: no dockerd, no iptables.
    os.environ["PATH"] = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"
    parts.made()
    with engine_folder() as folder:
        return run_in_namespaces(folder, command)


@contextlib.contextmanager
def engine_folder() -> Iterator[Path]:
    """A folder whose lock shows later runs that this one is alive."""
    folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=PLACE))
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            yield folder
        finally:
            remove(folder)


def run_in_namespaces(folder: Path, command: list[str]) -> int:
    # When the first process of a PID namespace dies, the kernel kills all others: engine, containerd, containers. So
    # nothing outlives this process, not even after SIGKILL.
    namespaces = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--propagation", "private"]
    inside = [sys.executable, "-m", "tests.containers.engine.inside", str(folder), *command]
    process = subprocess.Popen([*namespaces, *inside], cwd=parts.ROOT, preexec_fn=_end_with_parent)  # noqa: PLW1509

    def end(number: int, _frame: FrameType | None) -> None:
        process.kill()

    # Ctrl-C reaches the command through the terminal: pytest then reports and ends by itself.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, end)
    status = process.wait()
    return status if status >= 0 else 128 - status


def _end_with_parent() -> None:
    """prctl PR_SET_PDEATHSIG."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def remove_leftovers() -> None:
    """What runs left behind that were ended by SIGKILL."""
    for folder in PLACE.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError), (folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            remove(folder)


def remove(folder: Path) -> None:
    """The engine's mounts went with its namespace; its control groups have no namespace of their own."""
    for mount in Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines():
        path, kind = mount.split()[4], mount.partition(" - ")[2].split()[0]
        if kind in ("cgroup", "cgroup2"):
            for group, _, _ in os.walk(f"{path}/{folder.name}", topdown=False):
                with contextlib.suppress(OSError):
                    Path(group).rmdir()
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or ["bash"]))
