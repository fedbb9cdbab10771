"""The text format of Prometheus: the samples of some metrics, and nothing of the rest.

A hostile answer costs little: long lines are skipped, and so is what follows the last permitted sample.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import NamedTuple

_MAX_LINE = 4096
_MAX_SAMPLES = 20_000
_SAMPLE = re.compile(
    r"([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})?[ \t]+"
    r"([+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)(?:[ \t]+-?[0-9]+)?[ \t\r]*"
)
_LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"(?:,|\Z)', re.DOTALL)
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)


class Sample(NamedTuple):
    """`series` tells the samples of one metric apart."""

    series: str
    labels: Mapping[str, str]
    value: float


def parse(text: str, names: frozenset[str] | None = None) -> dict[str, list[Sample]]:
    """By name, of the given names or of all. Samples that are not finite numbers are left out."""
    found: dict[str, list[Sample]] = {}
    count = 0
    for line in text.split("\n"):
        if len(line) > _MAX_LINE or line.startswith("#"):
            continue
        match = _SAMPLE.fullmatch(line)
        if match is None or (names is not None and match[1] not in names):
            continue
        value = float(match[3])
        if not math.isfinite(value):
            continue
        found.setdefault(match[1], []).append(Sample(match[2] or "", _labels(match[2] or ""), value))
        count += 1
        if count == _MAX_SAMPLES:
            break
    return found


def _labels(text: str) -> dict[str, str]:
    return {match[1]: _ESCAPE.sub(_unescaped, match[2]) for match in _LABEL.finditer(text)}


def _unescaped(match: re.Match[str]) -> str:
    return "\n" if match[1] == "n" else match[1]
