"""One real server with two workers for all flows. A test that kills or stops a server starts its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.flows.backend import Backend, ExpiringChallenge
from tests.support.live import LiveServer
from tests.support.ordering import last_of_folder


@pytest.fixture(scope="session")
def server() -> Iterator[LiveServer]:
    with LiveServer(workers=2, SIGIL_RATE_LIMIT="off", SIGIL_DEVICE_RATE="off") as running:
        yield running


@pytest.fixture(scope="session")
def backend(server: LiveServer) -> Iterator[Backend]:
    with Backend(server) as calling:
        yield calling


@pytest.fixture(scope="session", autouse=True)
def expiring_challenge(backend: Backend) -> ExpiringChallenge:
    """Created before all tests and checked after them: the shortest challenge takes 30 s to expire."""
    return ExpiringChallenge.create(backend)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that wait for an expiry run last, after the time has passed while other tests ran."""
    last_of_folder(items, "flows", lambda item: "expires" in item.name)
