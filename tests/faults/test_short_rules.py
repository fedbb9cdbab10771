"""The shortened rules differ from the project's in their durations alone."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.faults.short_rules import RULES, shortened


@pytest.mark.parametrize(
    ("text", "short"),
    [
        ("for: 2m", "for: 4s"),
        ("for: 15m", "for: 8s"),
        ("for: 0s", "for: 0s"),
        ("increase(a[10m]) unless a offset 10m", "increase(a[10s]) unless a offset 10s"),
        ("rate(a[1h]) > 14 * 86400", "rate(a[15s]) > 14 * 86400"),
        ("rate(a[1m])", "rate(a[4s])"),
        ("rate(a[1d])", "rate(a[15s])"),
        ('description: "in the last 15 minutes"', 'description: "in the last 15 minutes"'),
    ],
)
def test_durations_are_shortened_and_nothing_else(text: str, short: str) -> None:
    assert shortened(text) == short


@pytest.mark.parametrize("path", sorted(RULES.glob("*.rules.yml")), ids=lambda path: path.name)
def test_no_long_duration_is_left(path: Path) -> None:
    rules = shortened(path.read_text(encoding="utf-8"))
    assert not re.search(r"(\[|for: |offset )\d+[mhd]\b", rules)
    assert "alert: " in rules
