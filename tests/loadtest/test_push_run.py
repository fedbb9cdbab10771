"""The real thing, shortly: a server, a relay and devices that listen, and every push counted."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_a_short_run_loses_no_push_and_tells_what_each_side_spends() -> None:
    command = [sys.executable, "-m", "loadtest.pushes", "--seconds", "2", "--devices", "5", "--workers", "1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    for told in ("pushes/s", "to the frame: p50", "CPU of one: relay", "CPU of one: server", "errors 0"):
        assert told in done.stdout
