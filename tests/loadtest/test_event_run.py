"""A short run of loadtest.events: a server without webhooks, one with a receiver, and every event counted."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_a_short_run_loses_no_event_and_prints_the_cost_of_one() -> None:
    command = [sys.executable, "-m", "loadtest.events", "--seconds", "2", "--connections", "8", "--workers", "1"]
    finished = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    for text in ("without webhooks", "with webhooks", "ratio", "events arrived"):
        assert text in finished.stdout
