"""`make audit` fails unless every pinned package was checked."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from deploy.tools.audit import LOCK, audit

ROOT = Path(__file__).resolve().parent.parent
PINNED = ["aiohttp", "Zope.Event"]


def of(name: str, *advisories: str) -> dict[str, Any]:
    return {"name": name, "version": "1", "vulns": [{"id": advisory} for advisory in advisories]}


def skipped(name: str) -> dict[str, Any]:
    return {"name": name, "skip_reason": "not found on PyPI"}


@pytest.mark.parametrize(
    ("report", "exit_code", "expected", "text"),
    [
        ({"dependencies": [of("aiohttp"), of("zope-event")]}, 0, 0, "2 packages checked"),
        ({"dependencies": [of("aiohttp", "PYSEC-1"), of("zope-event")]}, 1, 1, "VULNERABLE aiohttp: PYSEC-1"),
        ({"dependencies": [of("aiohttp", "PYSEC-1"), skipped("zope-event")]}, 1, 1, "VULNERABLE"),
        # What pip-audit calls "No known vulnerabilities found".
        ({"dependencies": [skipped("aiohttp"), skipped("zope-event")]}, 0, 2, "INCOMPLETE: 2 of 2"),
        ({"dependencies": [of("aiohttp"), skipped("zope-event")]}, 0, 2, "INCOMPLETE: 1 of 2"),
        ({"dependencies": [of("aiohttp")]}, 0, 2, "INCOMPLETE: 1 of 2"),
        ({"dependencies": []}, 0, 2, "INCOMPLETE"),
        ({"dependencies": [of("aiohttp"), of("zope-event")]}, 1, 2, "INCOMPLETE: pip-audit failed"),
        (None, 1, 2, "where an advisory source can be reached"),
        ([], 0, 2, "INCOMPLETE"),
    ],
)
def test_an_audit_that_did_not_check_every_package_fails(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], *, report: Any, exit_code: int, expected: int, text: str
) -> None:
    lock = tmp_path / "requirements.lock"
    lock.write_text("".join(f"{name}==1 \\\n    --hash=sha256:00\n" for name in PINNED))
    printed = "no JSON" if report is None else json.dumps(report)
    stub = f"import sys; print({printed!r}); assert '--strict' in sys.argv; sys.exit({exit_code})"
    assert audit([sys.executable, "-c", stub], lock) == expected
    assert text in capfd.readouterr().err


def test_a_traceback_of_the_auditor_is_its_last_line(capfd: pytest.CaptureFixture[str]) -> None:
    calls = [f"def f{depth}(): f{depth + 1}()" for depth in range(25)]
    program = "\n".join([*calls, "def f25(): raise OSError('the index is unreachable')", "f0()"])
    assert audit([sys.executable, "-c", program]) == 2
    lines = capfd.readouterr().err.splitlines()
    assert lines[0].startswith("make audit: pip-audit checks ")
    assert lines[1] == "pip-audit: OSError: the index is unreachable"
    assert lines[2].startswith("INCOMPLETE: ")
    assert not any("Traceback" in line for line in lines)


def test_an_auditor_that_cannot_run_is_no_result(capfd: pytest.CaptureFixture[str]) -> None:
    assert audit([sys.executable, "-c", "import a_module_that_does_not_exist"]) == 2
    assert "INCOMPLETE" in capfd.readouterr().err


def test_the_auditor_is_neither_a_dependency_nor_a_part_of_ci() -> None:
    assert "pip-audit" not in LOCK.read_text(encoding="utf-8")
    assert "audit" not in (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    for script in ("run", "test"):
        assert "audit" not in (ROOT / ".ci" / script).read_text(encoding="utf-8")
