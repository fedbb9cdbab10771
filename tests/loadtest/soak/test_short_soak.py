"""A short soak: every kind of fault at least once, and every decision accounted for."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import msgspec

from loadtest.soak.report import Report
from loadtest.soak.schedule import KINDS

ROOT = Path(__file__).resolve().parents[3]


def test_a_short_soak_with_every_fault_loses_and_doubles_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "loadtest.soak", "--seconds", "30", "--seed", "1", "--rate", "6"]
    finished = subprocess.run(
        [*command, "--reports", str(tmp_path)], cwd=ROOT, capture_output=True, text=True, timeout=1200, check=False
    )
    # The last lines name the seed and every violation.
    assert finished.returncode == 0, finished.stdout + finished.stderr
    (path,) = tmp_path.glob("*.json")
    report = msgspec.json.decode(path.read_bytes(), type=Report)
    assert report.faults.keys() == {kind for kinds in KINDS.values() for kind in kinds}
    for name in ("challenges verified", "challenges rejected", "approvals approved"):
        assert report.subjects[name] > 0
