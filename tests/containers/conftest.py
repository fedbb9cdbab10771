"""Stacks that many tests share. `make test-docker` runs these tests with a Docker engine of their own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.containers.installation import Installation, Phone
from tests.containers.stack import V1, V2

if "SIGIL_TEST_ENGINE" not in os.environ:
    raise pytest.UsageError("tests/containers needs a Docker engine: run them with `make test-docker`")

FIGURES = pytest.StashKey[dict[str, str]]()


@pytest.fixture(scope="session")
def figures(pytestconfig: pytest.Config) -> dict[str, str]:
    """What tests measured, printed at the end of the run."""
    return pytestconfig.stash.setdefault(FIGURES, {})


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for name, value in config.stash.get(FIGURES, {}).items():
        terminalreporter.write_line(f"{name}: {value}")


@pytest.fixture(scope="session")
def default_stack(tmp_path_factory: pytest.TempPathFactory, figures: dict[str, str]) -> Iterator[Installation]:
    """Under Compose 2, with default ports, names and networks: an unchanged checkout."""
    with Installation(tmp_path_factory.mktemp("default"), V2, default_names=True) as stack:
        stack.set_up()
        figures["cold make up, Compose 2"] = f"{stack.seconds:.1f} s"
        yield stack


@pytest.fixture(scope="session")
def other_stack(tmp_path_factory: pytest.TempPathFactory, figures: dict[str, str]) -> Iterator[Installation]:
    """Under Compose 1.29.2, on the same host at the same time: its own project, ports, subnet and volume."""
    with Installation(tmp_path_factory.mktemp("other"), V1) as stack:
        stack.set_up()
        figures["make up of a second stack, Compose 1.29"] = f"{stack.seconds:.1f} s"
        yield stack


@pytest.fixture(scope="session", params=[V2, V1])
def stack(request: pytest.FixtureRequest) -> Installation:
    """Each of both. A test leaves it healthy and set up."""
    chosen: Installation = request.getfixturevalue("default_stack" if request.param == V2 else "other_stack")
    return chosen


@pytest.fixture
def phone(stack: Installation, tmp_path: Path) -> Phone:
    """A new device, enrolled at the stack and registered at its relay."""
    return Phone(stack, tmp_path / "phone")
