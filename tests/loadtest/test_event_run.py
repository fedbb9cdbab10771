"""The real thing, shortly: a server without webhooks and one with a receiver, and every event counted."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_a_short_run_loses_no_event_and_tells_what_one_costs() -> None:
    command = [sys.executable, "-m", "loadtest.events", "--seconds", "2", "--connections", "8", "--workers", "1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    for told in ("without webhooks", "with webhooks", "ratio", "events arrived"):
        assert told in done.stdout
