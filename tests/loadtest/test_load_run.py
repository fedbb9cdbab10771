"""The real thing, shortly: a server, Locust in two processes, figures and a report."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_a_short_run_has_no_errors_and_writes_a_report(tmp_path: Path) -> None:
    options = ["--seconds", "3", "--users", "4", "--processes", "2", "--at-least", "0", "--reports", str(tmp_path)]
    command = [sys.executable, "-m", "loadtest.load", *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    shown = [line.strip() for line in done.stdout.splitlines()]
    assert "errors 0" in shown
    for name in ("server worker 2", "locust master", "locust worker 2", "create", "answer", "status", "complete"):
        assert any(line.startswith(name) for line in shown), done.stdout
    (report,) = tmp_path.glob("*.html")
    assert f"report {report}" in shown
    assert "<html" in report.read_text(encoding="utf-8")
