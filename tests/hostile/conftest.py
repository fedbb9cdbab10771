"""One real server with two workers for all hostile input: after every test it stands as it stood before."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.hostile.offering import Offering, offering
from tests.hostile.stranger import Stranger
from tests.hostile.watch import UNLIMITED, Watch
from tests.support.live import LiveServer


@pytest.fixture(scope="session")
def server() -> Iterator[LiveServer]:
    with LiveServer(workers=2, **UNLIMITED) as running:
        yield running
        assert running.stop() == 0, "it did not stop cleanly"


@pytest.fixture(scope="session")
def offers(server: LiveServer) -> Iterator[Offering]:
    with offering(server) as offers:
        yield offers


@pytest.fixture(scope="session")
def stranger(server: LiveServer) -> Stranger:
    return Stranger(server)


@pytest.fixture(scope="session")
def watch(server: LiveServer, stranger: Stranger) -> Iterator[Watch]:
    watching = Watch(server, stranger)
    yield watching
    watching.close()


@pytest.fixture(autouse=True)
def unharmed(watch: Watch) -> Iterator[None]:
    yield
    watch.check()
