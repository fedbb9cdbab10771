"""Tests that wait for time to pass run last in their folder, so that the time passes while the others run."""

from __future__ import annotations

from collections.abc import Callable

import pytest


def last_of_folder(items: list[pytest.Item], folder: str, waits: Callable[[pytest.Item], bool]) -> None:
    """Reorders the tests of `folder` in place: those for which `waits` is true go last.

    They are not last of the whole run: a result is readable for ten minutes only, and the run may take longer.
    """
    positions = [position for position, item in enumerate(items) if item.nodeid.startswith(f"tests/{folder}/")]
    own = sorted((items[position] for position in positions), key=waits)
    for position, item in zip(positions, own, strict=True):
        items[position] = item
