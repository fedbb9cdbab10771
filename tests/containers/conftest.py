"""Stacks that many tests share. `make test-docker` runs these tests with a Docker engine of their own."""

from __future__ import annotations

import os

import pytest

if "SIGIL_TEST_ENGINE" not in os.environ:
    raise pytest.UsageError("tests/containers needs a Docker engine: run them with `make test-docker`")

FIGURES = pytest.StashKey[dict[str, float]]()


@pytest.fixture(scope="session")
def figures(pytestconfig: pytest.Config) -> dict[str, float]:
    """Seconds and bytes that tests measured; printed at the end of the run."""
    return pytestconfig.stash.setdefault(FIGURES, {})


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for name, value in config.stash.get(FIGURES, {}).items():
        terminalreporter.write_line(f"{name}: {value:.1f}")
