"""One real server with two workers for all flows; whoever kills or stops it starts another."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.flows.people import Backend, Expiring
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
def expiring(backend: Backend) -> Expiring:
    """Asked first of all and looked at last: the shortest challenge takes 30 s to expire."""
    return Expiring.ask(backend)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What waits for time to pass runs when it has passed while others ran."""
    last_of_folder(items, "flows", lambda item: "expires" in item.name)
