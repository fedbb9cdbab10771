"""One server, one relay, the stand-ins, and each browser once, for all these tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from relay.web_push_settings import new_key
from tests.device_app.person import DeviceServer
from tests.support import push_browsers
from tests.support.live import wait_until
from tests.support.live_relay import LiveRelay
from tests.support.providers import Providers
from tests.support.push_browsers import PushBrowser

from .person import Person


@pytest.fixture(scope="package")
def providers() -> Iterator[Providers]:
    with Providers() as running:
        yield running


@pytest.fixture(scope="package")
def push_relay(providers: Providers) -> Iterator[LiveRelay]:
    settings = {"SSL_CERT_FILE": providers.env["SSL_CERT_FILE"], **providers.webpush_env}
    relay = LiveRelay(RELAY_WEBPUSH_KEY=new_key(), **settings)
    relay.environ["RELAY_PUBLIC_URL"] = f"http://localhost:{relay.port}"
    with relay:
        yield relay


@pytest.fixture(scope="package")
def web_server(push_relay: LiveRelay) -> Iterator[DeviceServer]:
    settings = {"RELAY_URL": push_relay.url, "RELAY_PUBLIC_URL": push_relay.environ["RELAY_PUBLIC_URL"]}
    with DeviceServer(SIGIL_WORKERS="2", SIGIL_DEVICE_RATE="off", **settings) as server:
        wait_until(lambda: len(server.workers()) == 2, "both workers")
        yield server


@pytest.fixture(scope="package", params=push_browsers.NAMES)
def push_browser(request: pytest.FixtureRequest, providers: Providers) -> Iterator[PushBrowser]:
    with push_browsers.push_browser(request.param, providers) as browser:
        yield browser


@pytest.fixture(scope="package")
def enrolled(push_browser: PushBrowser, web_server: DeviceServer) -> Person:
    """Enrolled by the screens, and reached by pushes."""
    push_browser.allow_notifications(web_server.url)
    person = Person(push_browser, web_server)
    person.opens()
    push_browser.add_authenticator()
    person.enrols()
    person.warms_up()
    return person


@pytest.fixture
def person(enrolled: Person) -> Iterator[Person]:
    """With no page of the app open, and nothing pending."""
    yield enrolled
    enrolled.withdraws()
    enrolled.leaves()
    if enrolled.browser.notifications():
        enrolled.closes_notifications()
