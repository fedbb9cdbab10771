"""The levels of the session store, as log lines."""

from __future__ import annotations

import json

import pytest

from sigil.telemetry.store_watch import StoreWatch


def events_of(free_percents: list[int], capfd: pytest.CaptureFixture[str]) -> list[str]:
    current = [0]
    watch = StoreWatch(lambda: (current[0], 100))
    for percent in free_percents:
        current[0] = percent
        watch.check()
    return [json.loads(line)["event"] for line in capfd.readouterr().out.splitlines()]


@pytest.mark.parametrize(
    ("free_percents", "events"),
    [
        ([85, 16, 15], []),
        ([14, 10, 1], ["store_filling"]),
        ([14, 0, -3], ["store_filling", "store_full"]),
        ([0], ["store_full"]),
        # At a limit, a store that moves by a few percent writes nothing more.
        ([14, 15, 14, 19, 13], ["store_filling"]),
        ([0, 1, 0, 5, 0], ["store_full"]),
        ([0, 7, 0], ["store_full", "store_full"]),
        ([0, 20], ["store_full", "store_has_space"]),
        ([14, 20, 14], ["store_filling", "store_has_space", "store_filling"]),
    ],
)
def test_each_level_is_logged_once_when_it_is_reached(
    free_percents: list[int], events: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    assert events_of(free_percents, capfd) == events
