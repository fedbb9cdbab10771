"""One server and one browser for all tests of the web app; each person has a browser profile of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser

from tests.browser import chromium

from .person import DeviceServer, Person


# Of this package, not of the session: Playwright holds an event loop while it runs, and other tests have their own.
@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    if chromium.executable() is None:
        pytest.skip("there is no Chromium: `make test-deps` installs it")
    with chromium.running() as browser:
        yield browser


@pytest.fixture(scope="package")
def server(browser: Browser) -> Iterator[DeviceServer]:
    """Without a relay, and without plain keys."""
    with DeviceServer() as running:
        yield running


@pytest.fixture
def new_person(browser: Browser, server: DeviceServer) -> Iterator[Callable[..., Person]]:
    """Persons that fail the test when their page does what no page may do; `at=` is another server."""
    made: list[Person] = []

    def person(at: DeviceServer = server, **looks: Any) -> Person:
        made.append(Person(browser, at, **looks))
        return made[-1]

    yield person
    for one in made:
        one.close()


@pytest.fixture
def person(new_person: Callable[..., Person]) -> Person:
    """On a phone, with passkeys, not enrolled."""
    return new_person()
