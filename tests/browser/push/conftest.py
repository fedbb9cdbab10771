"""Each browser starts once for all tests of this package."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support import push_browsers
from tests.support.providers import Providers
from tests.support.push_browsers import PushBrowser

from .page import Sender, Site, Subscribed, subscribe


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


@pytest.fixture(scope="package", params=push_browsers.NAMES)
def push_browser(request: pytest.FixtureRequest, running: Providers) -> Iterator[PushBrowser]:
    with push_browsers.push_browser(request.param, running) as browser:
        yield browser


@pytest.fixture
def subscribed(providers: Providers, push_browser: PushBrowser, site: Site, sender: Sender) -> Subscribed:
    return subscribe(push_browser, site, sender)
