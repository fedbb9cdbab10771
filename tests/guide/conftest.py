"""One server with webhooks, as the self-hosting guide describes it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.flows.backend import Backend
from tests.support.live import LiveServer, wait_until
from tests.support.webhook_endpoint import WebhookEndpoint

SECRET = "the webhook secret of the tests of the guide"


@pytest.fixture(scope="session")
def endpoint() -> Iterator[WebhookEndpoint]:
    with WebhookEndpoint() as receiving:
        yield receiving


@pytest.fixture(scope="session")
def guide_server(endpoint: WebhookEndpoint) -> Iterator[LiveServer]:
    with LiveServer(workers=2, WEBHOOK_URL=endpoint.url, WEBHOOK_SECRET=SECRET, LOG_LEVEL="debug") as running:
        wait_until(lambda: len(running.workers()) == 2, "both workers")
        yield running


@pytest.fixture(scope="session")
def backend(guide_server: LiveServer) -> Iterator[Backend]:
    with Backend(guide_server) as calling:
        yield calling
