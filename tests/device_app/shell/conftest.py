"""A server with a relay that does not answer: the app offers notifications, and must work without them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from tests.device_app.person import DeviceServer


@pytest.fixture(scope="package")
def relayed(browser: Browser) -> Iterator[DeviceServer]:
    # Port 9 of loopback: the connection is refused at once.
    relay = "http://127.0.0.1:9"
    with DeviceServer(SIGIL_SERVER_NAME="Northwind sign-in", RELAY_URL=relay, RELAY_PUBLIC_URL=relay) as running:
        yield running
