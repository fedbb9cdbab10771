"""The project's alert rules with every duration shortened, so that a test sees an alert fire within seconds."""

from __future__ import annotations

import re
from pathlib import Path

RULES = Path(__file__).parents[2] / "deploy" / "observability" / "prometheus" / "rules"
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_DURATION = re.compile(r"(?P<before>\[|\bfor: |\bkeep_firing_for: |\boffset )(?P<number>\d+)(?P<unit>[smhd])\b")
_FACTOR = 60
SHORTEST = 4
"""Seconds: a rate needs two scrapes, one a second."""
LONGEST_FOR, LONGEST_RANGE = 8, 15
"""Seconds: a test waits for a `for` and a range, one after the other."""


def shortened(rules: str) -> str:
    """The durations of `for`, ranges and offsets divided by 60, within the limits. Comparisons stay as they are."""

    def shorter(found: re.Match[str]) -> str:
        seconds = int(found["number"]) * _UNITS[found["unit"]]
        # Zero stays: the alert fires at once.
        longest = LONGEST_FOR if "for" in found["before"] else LONGEST_RANGE
        limited = min(max(seconds // _FACTOR, SHORTEST), longest) if seconds else 0
        return f"{found['before']}{limited}s"

    return _DURATION.sub(shorter, rules)


def write_short_rules(directory: Path) -> list[Path]:
    """The rule files for Prometheus, written to `directory`."""
    written = []
    for source in sorted(RULES.glob("*.rules.yml")):
        path = directory / source.name
        path.write_text(re.sub(r"\binterval: \w+", "interval: 1s", shortened(source.read_text(encoding="utf-8"))))
        written.append(path)
    return written
