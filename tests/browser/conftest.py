"""The browser, and the servers that its tests share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser

from tests.support.live import LiveServer

from . import chromium
from .init_server import InitServer
from .window import Window


# Of this package, not of the session: Playwright holds an event loop while it runs, and other tests have their own.
@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    if chromium.executable() is None:
        pytest.skip("there is no Chromium: `make test-deps` installs it")
    with chromium.running() as browser:
        yield browser


@pytest.fixture(scope="package")
def init_server(browser: Browser) -> Iterator[InitServer]:
    """In init mode, with a required token; no test commits anything here."""
    with InitServer() as server:
        yield server


@pytest.fixture
def new_server(browser: Browser) -> Iterator[Callable[..., InitServer]]:
    """Servers for one test alone, which may set them up."""
    made: list[InitServer] = []

    def start(**settings: Any) -> InitServer:
        made.append(InitServer(**settings))
        made[-1].start()
        return made[-1]

    yield start
    for server in made:
        server.__exit__(None, None, None)


@pytest.fixture
def new_window(browser: Browser) -> Iterator[Callable[..., Window]]:
    """Windows that fail the test when one of their pages does what no page may do."""
    made: list[Window] = []

    def opened(server: LiveServer, **looks: Any) -> Window:
        made.append(Window(browser, server.url, **looks))
        return made[-1]

    yield opened
    for window in made:
        window.close()


@pytest.fixture
def window(init_server: InitServer, new_window: Callable[..., Window]) -> Window:
    """A window on the server that no test sets up."""
    return new_window(init_server)
