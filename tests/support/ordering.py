"""Tests that wait for the clock come last among their own, so that it has run while the others ran."""

from __future__ import annotations

from collections.abc import Callable

import pytest


def last_of_folder(items: list[pytest.Item], folder: str, waits: Callable[[pytest.Item], bool]) -> None:
    """Reorder the tests of `folder` in place: those for which `waits` go last. Others keep their places.

    Not last of all: a result is readable for ten minutes only, and the whole run may take longer.
    """
    places = [place for place, item in enumerate(items) if item.nodeid.startswith(f"tests/{folder}/")]
    own = sorted((items[place] for place in places), key=waits)
    for place, item in zip(places, own, strict=True):
        items[place] = item
