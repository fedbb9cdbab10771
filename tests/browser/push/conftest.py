"""Each browser starts once for all tests of this package."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.browser import chromium
from tests.support import firefox
from tests.support.firefox import Firefox
from tests.support.providers import Providers
from tests.support.push_chromium import PushChromium

from .page import PushBrowser, Sender, Site, Subscribed, subscribe


@pytest.fixture(scope="package")
def running() -> Iterator[Providers]:
    with Providers() as providers:
        yield providers


@pytest.fixture
def providers(running: Providers) -> Providers:
    running.reset()
    return running


@pytest.fixture(scope="package")
def site() -> Iterator[Site]:
    with Site() as site:
        yield site


@pytest.fixture(scope="package")
def sender(running: Providers) -> Sender:
    return Sender(running)


@pytest.fixture(scope="package", params=["chromium", "firefox"])
def push_browser(request: pytest.FixtureRequest, running: Providers) -> Iterator[PushBrowser]:
    name = request.param
    if (chromium if name == "chromium" else firefox).executable() is None:
        pytest.skip(f"there is no {name.capitalize()}: `make test-deps` installs it")
    started: PushBrowser = (
        PushChromium(running.chromium_options) if name == "chromium" else Firefox(running.firefox_preferences)
    )
    with started as browser:
        yield browser


@pytest.fixture
def subscribed(providers: Providers, push_browser: PushBrowser, site: Site, sender: Sender) -> Subscribed:
    return subscribe(push_browser, site, sender)
