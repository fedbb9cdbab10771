"""Reads the vector files of tests/vectors.

A file of many small cases is one test that names every mismatch; one of few is a named test for each case.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parent.parent / "vectors"

Case = dict[str, Any]


def cases(file: str) -> list[Case]:
    found: list[Case] = json.loads((FOLDER / file).read_text(encoding="ascii"))["cases"]
    return found


def mismatches(file: str, outcome: Callable[[Case], Case]) -> dict[str, Case]:
    """The cases with another outcome than expected, by name, with that outcome."""
    found = {}
    for case in cases(file):
        expected = {name: case[name] for name in ("expect", "path") if name in case}
        if (got := outcome(case)) != expected:
            found[case["name"]] = got
    return found


def each_case(file: str) -> pytest.MarkDecorator:
    """Runs the test for each case of the file, in its argument `case`."""
    return pytest.mark.parametrize("case", [pytest.param(case, id=ascii(case["name"])) for case in cases(file)])
