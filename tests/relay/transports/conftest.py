"""Transports against the stand-ins. They run in this process, so that tests can count their streams."""

from __future__ import annotations

import asyncio
import os
import secrets
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from relay.config import load
from relay.transports import OutgoingPush, Transport
from relay.transports.apns import ApnsTransport
from relay.transports.connection_pool import PoolSettings
from relay.transports.fcm import FcmTransport
from tests.support.live import DEADLINE
from tests.support.providers import Providers, apns_token, fcm_token

PAYLOAD = b'{"type":"challenge","challenge_id":"c1","server_id":"s1"}'
QUICK = PoolSettings(connect_timeout=20, max_backoff=0.2)
NEW_TOKEN = {"apns": apns_token, "fcm": fcm_token}


@pytest.fixture(scope="session")
def stand_ins() -> Iterator[Providers]:
    with Providers() as running:
        yield running


@pytest.fixture
def providers(stand_ins: Providers, monkeypatch: pytest.MonkeyPatch) -> Providers:
    """The stand-ins after a reset, and with a certificate that the clients of this test trust."""
    monkeypatch.setenv("SSL_CERT_FILE", stand_ins.env["SSL_CERT_FILE"])
    stand_ins.reset()
    return stand_ins


@pytest.fixture(params=["apns", "fcm"])
def provider(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


def transport_of(
    provider: str, providers: Providers, settings: PoolSettings = QUICK, **env: str
) -> ApnsTransport | FcmTransport:
    config = load({**providers.env, **env, "PATH": os.environ.get("PATH", "")})
    if provider == "apns":
        assert config.apns is not None
        return ApnsTransport(config.apns, time.time, settings)
    assert config.fcm is not None
    return FcmTransport(config.fcm, time.time, settings)


@asynccontextmanager
async def opened(
    provider: str, providers: Providers, settings: PoolSettings = QUICK, **env: str
) -> AsyncIterator[ApnsTransport | FcmTransport]:
    """A transport. After the test it must hold no stream."""
    transport = transport_of(provider, providers, settings, **env)
    transport.open()
    try:
        yield transport
        assert transport.load().streams == 0
    finally:
        await transport.close()
        assert transport.load() == (0, 0)


@pytest.fixture
async def transport(provider: str, providers: Providers) -> AsyncIterator[Transport]:
    """With all its connections, each of which allows many streams from the start: pushes spread over all of them."""
    providers.settings("apns", first_streams=1000)
    async with opened(provider, providers) as transport:
        async with asyncio.timeout(DEADLINE):
            while transport.load().connections < QUICK.connections:
                await asyncio.sleep(0.01)
        yield transport


def new_push(provider: str, prefix: str = "", **changed: Any) -> OutgoingPush:
    """A push to a new device. Its token begins with `prefix`, so that a rule can match it."""
    fields = {
        "push_id": secrets.token_hex(16),
        "fingerprint": "f" * 64,
        "token": NEW_TOKEN[provider](prefix),
        "payload": PAYLOAD,
        "expires_at": int(time.time()) + 300,
        "collapse_id": "c1",
        "priority": "high",
    }
    return OutgoingPush(**{**fields, **changed})
