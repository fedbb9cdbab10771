"""A short run of loadtest.load: a server, Locust in two processes, results and a report."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_a_short_run_has_no_errors_and_writes_a_report(tmp_path: Path) -> None:
    options = ["--seconds", "3", "--users", "4", "--processes", "2", "--at-least", "0", "--reports", str(tmp_path)]
    command = [sys.executable, "-m", "loadtest.load", *options]
    finished = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    lines = [line.strip() for line in finished.stdout.splitlines()]
    assert "errors 0" in lines
    for name in ("server worker 2", "locust master", "locust worker 2", "create", "answer", "status", "complete"):
        assert any(line.startswith(name) for line in lines), finished.stdout
    (report,) = tmp_path.glob("*.html")
    assert f"report {report}" in lines
    assert "<html" in report.read_text(encoding="utf-8")
