"""The engine of these tests: what is missing is named, and nothing of it outlives its launcher."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.containers.engine import parts, requirements
from tests.containers.engine.__main__ import PLACE, PREFIX
from tests.support.live import DEADLINE, wait_until


def launch(*command: str, output: int | None = subprocess.PIPE) -> subprocess.Popen[str]:
    """Another engine inside this one's namespaces, without images."""
    environ = {**os.environ, "IMAGES": "none"}
    launcher = [sys.executable, "-m", "tests.containers.engine", *command]
    return subprocess.Popen(launcher, cwd=parts.ROOT, env=environ, stdout=output, text=True, stdin=subprocess.DEVNULL)


def processes(folder: str) -> list[str]:
    """Command lines with the name of an engine's folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = process.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if folder in line:
            found.append(line)
    return found


def control_groups(folder: str) -> list[Path]:
    return [path for path in Path("/sys/fs/cgroup").glob(f"**/{folder}") if path.is_dir()]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_launcher_that_is_ended_takes_everything_with_it(number: signal.Signals) -> None:
    launcher = launch("sh", "-c", "echo $DOCKER_HOST; sleep 1000")
    assert launcher.stdout is not None
    with launcher.stdout as output:
        for line in output:
            if line.startswith("unix:"):
                break
        folder = Path(line.strip().removeprefix("unix://")).parent
        assert folder.name.startswith(PREFIX)
        assert any("dockerd" in line for line in processes(folder.name))
        assert any("containerd" in line for line in processes(folder.name))
        launcher.send_signal(number)
        launcher.wait(DEADLINE)
    wait_until(lambda: not processes(folder.name), "the engine's processes to end")
    if number == signal.SIGKILL:
        assert folder.exists()
        assert launch("true", output=None).wait(DEADLINE) == 0
    assert not folder.exists()
    assert not control_groups(folder.name)


def test_the_exit_status_is_that_of_the_command_and_a_run_leaves_nothing() -> None:
    before = set(PLACE.glob(f"{PREFIX}*"))
    assert launch("sh", "-c", "exit 7", output=None).wait(DEADLINE) == 7
    assert set(PLACE.glob(f"{PREFIX}*")) <= before


def test_a_missing_program_is_one_line_with_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert requirements.problem() is None
    monkeypatch.setattr(requirements, "PROGRAMS", {"/usr/sbin/none": "docker.io", "/usr/bin/none": "mmdebstrap"})
    assert requirements.problem() == "missing: docker.io mmdebstrap; as root on Debian, run: make test-docker-deps"


def test_a_user_without_root_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert requirements.problem() == "a Docker engine needs root; run: sudo make test-docker"
