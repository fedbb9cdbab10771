"""The levels of the session store, as log lines."""

from __future__ import annotations

import json

import pytest

from sigil.core.session_store import Usage
from sigil.telemetry.store_watch import StoreWatch


def events_of(percents: list[int], capfd: pytest.CaptureFixture[str]) -> list[str]:
    current = [0]
    watch = StoreWatch(lambda: Usage(current[0], 100, 0))
    for percent in percents:
        current[0] = percent
        watch.check()
    return [json.loads(line)["event"] for line in capfd.readouterr().out.splitlines()]


@pytest.mark.parametrize(
    ("percents", "events"),
    [
        ([0, 69, 69], []),
        ([70, 75, 84], ["store_filling"]),
        ([70, 85, 99], ["store_filling", "store_full"]),
        ([90], ["store_full"]),
        # At a limit, a store that moves by a few percent writes nothing more.
        ([70, 69, 70, 66, 71], ["store_filling"]),
        ([85, 84, 86, 81, 85], ["store_full"]),
        ([85, 79, 85], ["store_full", "store_full"]),
        ([85, 64], ["store_full", "store_has_space"]),
        ([70, 64, 70], ["store_filling", "store_has_space", "store_filling"]),
    ],
)
def test_each_level_is_logged_once_when_it_is_reached(
    percents: list[int], events: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    assert events_of(percents, capfd) == events
