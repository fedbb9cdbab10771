"""What /proc shows of the processes of a service."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.serving.process.test_orphans import UNSHARE
from tests.serving.running import ROOT

_SHOW = "import os; from sigil.serving.process import proc_stats; print(os.getppid(), proc_stats.start_of_master())"
# The shell is PID 1, and the master of two workers.
_MASTER = f'"{sys.executable}" -c "{_SHOW}" && "{sys.executable}" -c "{_SHOW}"; exit'


def in_container() -> list[list[str]]:
    """The PID of the master and its number, as each of two workers sees them."""
    command = [*UNSHARE, "sh", "-c", _MASTER]
    shown = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=300).stdout
    return [line.split() for line in shown.splitlines()]


@pytest.mark.skipif(sys.platform != "linux", reason="namespaces of processes")
def test_starts_of_a_container_differ_though_each_master_is_pid_1() -> None:
    (one, same), (other, _) = in_container(), in_container()
    assert [one[0], other[0]] == ["1", "1"]
    assert one == same
    assert one[1] != other[1]
