"""Runs the command as an operator does, and reads its report."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

_SECONDS = 120


class Finding(NamedTuple):
    state: str
    text: str
    next_step: str


class Examination(NamedTuple):
    """The exit code, standard output, and the findings by name."""

    code: int
    output: str
    findings: dict[str, list[Finding]]

    def the(self, name: str) -> Finding:
        """The worst finding of that name."""
        ranked = sorted(self.findings[name], key=lambda found: ("failed", "open", "ok").index(found.state))
        return ranked[0]

    def states(self, name: str) -> set[str]:
        return {found.state for found in self.findings.get(name, [])}

    @property
    def failed(self) -> set[str]:
        return {name for name in self.findings if "failed" in self.states(name)}


def examine(
    environ: Mapping[str, str], *options: str, program: Literal["sigil", "relay"] = "sigil", **changed: str
) -> Examination:
    """Nothing goes to standard error, and the exit code fits the findings."""
    command = [sys.executable, "-m", program, "doctor", "--json", *options]
    ended = subprocess.run(
        command, env={**environ, **changed}, capture_output=True, text=True, timeout=_SECONDS, check=False
    )
    assert ended.stderr == ""
    assert ended.stdout.count("\n") == 1
    report: dict[str, Any] = json.loads(ended.stdout)
    findings: dict[str, list[Finding]] = {}
    for found in report["findings"]:
        findings.setdefault(found["name"], []).append(Finding(found["state"], found["text"], found["next_step"]))
    for found in report["findings"]:
        assert found["state"] == "ok" or found["next_step"], found
        assert "\n" not in found["text"] + found["next_step"]
    failed = sum(found["state"] == "failed" for found in report["findings"])
    assert report["failed"] == failed
    assert ended.returncode == (1 if failed else 0), ended.stdout
    return Examination(ended.returncode, ended.stdout, findings)
