"""`make audit`: compares the pinned dependencies with published advisories, and fails unless it checked every one.

pip-audit exits with 0 and reports "No known vulnerabilities found" when it has skipped packages, as it does for all of
them where the index has no advisories (a mirror). Exit codes: 0 checked and clean, 1 an advisory matches, 2 incomplete.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent
LOCK = ROOT / "requirements.lock"
_PIN = re.compile(r"^([A-Za-z0-9._-]+)==", re.MULTILINE)
_ADVICE = (
    "This is no result: a vulnerability may be known. Run `make audit` where an advisory source can be reached:\n"
    "the Python package index itself (the default; a mirror has no advisories), or OSV, with\n"
    '`make audit ARGS="--vulnerability-service osv"`.'
)


def audit(command: list[str], lock: Path = LOCK) -> int:
    """Run pip-audit as `command` on the lock file, and judge what it reports."""
    options = ["--strict", "--disable-pip", "--require-hashes", "--requirement", str(lock), "--format", "json"]
    pinned = {_normal(name) for name in _PIN.findall(lock.read_text(encoding="utf-8"))}
    _say(f"make audit: pip-audit checks {len(pinned)} packages, about a minute")
    done = subprocess.run(
        [*command, *options, "--progress-spinner", "off"], check=False, capture_output=True, text=True
    )
    checked = _checked(done.stdout)
    vulnerable = {name: ids for name, ids in checked.items() if ids}
    for name, ids in sorted(vulnerable.items()):
        _say(f"VULNERABLE {name}: {', '.join(ids)}")
    if vulnerable:
        _say("Update them in requirements.lock (`make lock`), or follow SECURITY.md where no fix exists.")
        return 1
    if missing := sorted(pinned - set(checked)):
        _say(_reason(done.stderr))
        _say(f"INCOMPLETE: {len(missing)} of {len(pinned)} packages were not checked, {missing[0]} for one.\n{_ADVICE}")
        return 2
    if done.returncode != 0 or not pinned:
        _say(f"{_reason(done.stderr)}\nINCOMPLETE: pip-audit failed with {done.returncode}.\n{_ADVICE}")
        return 2
    _say(f"{len(pinned)} packages checked, no known vulnerability.")
    return 0


def _checked(report: str) -> dict[str, list[str]]:
    """The advisories of each package that was checked. Without a readable report none was."""
    try:
        dependencies: list[dict[str, Any]] = json.loads(report)["dependencies"]
        return {
            _normal(found["name"]): [vulnerability["id"] for vulnerability in found["vulns"]]
            for found in dependencies
            if "skip_reason" not in found
        }
    except (ValueError, KeyError, TypeError):
        return {}


def _reason(stderr: str) -> str:
    """The last line: of an index that cannot be reached, the one that matters of a traceback of 25 lines."""
    lines = stderr.strip().splitlines() or ["pip-audit gave no reason"]
    return f"pip-audit: {lines[-1].strip()[:500]}"


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")


if __name__ == "__main__":
    sys.exit(audit(sys.argv[1:]))
