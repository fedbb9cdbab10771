"""One enrolled person for all tests of the deciding screens; each test begins with an empty list."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser

from tests.device_app.person import DeviceServer, Person

from .decider import Decider, close_when_clean


@pytest.fixture(scope="package")
def asking_server(browser: Browser) -> Iterator[DeviceServer]:
    """Without the limits on requests for one device: all tests share it."""
    with DeviceServer(SIGIL_DEVICE_RATE="off", SIGIL_MAX_PENDING_PER_DEVICE="100") as running:
        yield running


@pytest.fixture(scope="package")
def enrolled(browser: Browser, asking_server: DeviceServer) -> Iterator[Decider]:
    person = Person(browser, asking_server)
    yield Decider(person, asking_server)
    person.close()


@pytest.fixture
def decider(enrolled: Decider) -> Iterator[Decider]:
    enrolled.begin()
    yield enrolled
    close_when_clean(enrolled)


@pytest.fixture
def new_decider(browser: Browser, asking_server: DeviceServer) -> Iterator[Callable[..., Decider]]:
    """Persons for what would disturb the shared one: pauses, removed keys, a second device."""
    made: list[Person] = []

    def decider(at: DeviceServer = asking_server) -> Decider:
        made.append(Person(browser, at))
        return Decider(made[-1], at)

    yield decider
    for person in made:
        offences, person.offences = person.offences, []
        person.close()
        assert offences == []
