"""The order of tests. Those that wait for time to pass run last in their folder, so that it passes while the others
run. Long files run first, so that no process is left alone with one at the end."""

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


# Over half a minute each on two cores; the longest first.
LONG_FILES = (
    "tests/loadtest/soak/test_short_soak.py",
    "tests/flows/web_authenticator/test_flows.py",
    "tests/device_app/shell/test_states.py",
    "tests/flows/test_traces.py",
    "tests/browser/test_race.py",
    "tests/doctor/test_server.py",
    "tests/faults/test_faults_of_server.py",
    "tests/flows/test_approvals.py",
    "tests/serving/bounded/test_files.py",
    "tests/first_boot/test_races.py",
    "tests/cli/test_ask.py",
    "tests/relay/pushes/test_replicas.py",
    "tests/flows/test_pushes.py",
    "tests/conformance/test_expiry.py",
)


def long_files_first(items: list[pytest.Item]) -> None:
    """Reorders all tests in place. It needs `--no-loadscope-reorder`: by default pytest-xdist begins with the files of
    the most tests, and the longest have few."""
    positions = {name: position for position, name in enumerate(LONG_FILES)}
    items.sort(key=lambda item: positions.get(item.nodeid.partition("::")[0], len(positions)))
