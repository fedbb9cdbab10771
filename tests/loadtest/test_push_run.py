"""A short run of loadtest.pushes: a server, a relay and listening devices, and every push counted."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_a_short_run_loses_no_push_and_prints_the_cpu_of_each_side() -> None:
    command = [sys.executable, "-m", "loadtest.pushes", "--seconds", "2", "--devices", "5", "--workers", "1"]
    finished = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    for text in ("pushes/s", "to the frame: p50", "CPU of one push: relay", "CPU of one push: server", "errors 0"):
        assert text in finished.stdout
