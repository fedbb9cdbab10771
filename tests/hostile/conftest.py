"""One real server with two workers for all hostile input. After every test it is as healthy as before."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.hostile.raw_client import RawClient
from tests.hostile.server_check import UNLIMITED, ServerCheck
from tests.hostile.servers import Servers, servers_by_path
from tests.support.live import LiveServer


@pytest.fixture(scope="session")
def server() -> Iterator[LiveServer]:
    with LiveServer(workers=2, **UNLIMITED) as running:
        yield running
        assert running.stop() == 0, "it did not stop cleanly"


@pytest.fixture(scope="session")
def servers(server: LiveServer) -> Iterator[Servers]:
    with servers_by_path(server) as servers:
        yield servers


@pytest.fixture(scope="session")
def raw_client(server: LiveServer) -> RawClient:
    return RawClient(server)


@pytest.fixture(scope="session")
def server_check(server: LiveServer, raw_client: RawClient) -> Iterator[ServerCheck]:
    check = ServerCheck(server, raw_client)
    yield check
    check.close()


@pytest.fixture(autouse=True)
def check_server_after_each_test(server_check: ServerCheck) -> Iterator[None]:
    yield
    server_check.check()
