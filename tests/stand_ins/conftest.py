"""One set of stand-ins for all these tests, reset before each."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.stand_ins.clients import ApnsClient, FcmClient
from tests.support.providers import Providers


@pytest.fixture(scope="session")
def running() -> Iterator[Providers]:
    with Providers() as providers:
        yield providers


@pytest.fixture
def providers(running: Providers) -> Providers:
    running.reset()
    return running


@pytest.fixture
def apns(providers: Providers) -> Iterator[ApnsClient]:
    with providers.client(base_url=providers.apns_url) as client:
        yield ApnsClient(providers, client)


@pytest.fixture
def fcm(providers: Providers) -> Iterator[FcmClient]:
    with providers.client(base_url=providers.fcm_url) as client:
        yield FcmClient(providers, client)
