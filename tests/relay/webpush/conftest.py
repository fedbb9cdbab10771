"""The transport against a push service of this process."""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from relay.transports import OutgoingPush
from relay.transports.connection_pool import PoolSettings
from relay.transports.webpush.hosts import CONNECTIONS, HostPools
from relay.transports.webpush.transport import WebPushTransport
from relay.web_push_settings import Settings, VapidKey, hosts, new_key, vapid_key
from tests.support.push_service import FCM, NAMES, PushService, push_service
from tests.support.web_push import Subscription

QUICK = PoolSettings(connections=CONNECTIONS, connect_timeout=20, max_backoff=0.1)


@pytest.fixture
async def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[PushService]:
    async with push_service(tmp_path) as service:
        monkeypatch.setenv("SSL_CERT_FILE", str(service.ca))
        yield service


@pytest.fixture(scope="session")
def key() -> VapidKey:
    return vapid_key(new_key())


@asynccontextmanager
async def opened(
    key: VapidKey,
    items: str,
    *,
    keys: tuple[VapidKey, ...] = (),
    contact: str | None = "mailto:ops@sigil-relay.net",
    clock: Callable[[], float] = time.time,
    **pools: Any,
) -> AsyncIterator[WebPushTransport]:
    """A transport for the hosts `items`. After the test it must hold no stream and no connection."""
    settings = Settings(keys or (key,), contact, hosts(items))
    transport = WebPushTransport(settings, clock, HostPools(**{"settings": QUICK, **pools}))
    transport.open()
    try:
        yield transport
        assert transport.load().streams == 0
    finally:
        await transport.close()
        assert transport.load() == (0, 0)


def at(port: int) -> str:
    """The hosts of the push service, at its port."""
    return " ".join(f"{name}=127.0.0.1:{port}" for name in NAMES)


@pytest.fixture
async def transport(service: PushService, key: VapidKey) -> AsyncIterator[WebPushTransport]:
    async with opened(key, at(await service.listen())) as transport:
        yield transport


def subscription(key: VapidKey, path: str = "/push/ok", host: str = FCM) -> Subscription:
    return Subscription(key.public_text, f"https://{host}{path}")


def new_push(subscribed: Subscription | str, **changed: Any) -> OutgoingPush:
    fields = {
        "push_id": secrets.token_hex(16),
        "fingerprint": "f" * 64,
        "token": subscribed if isinstance(subscribed, str) else subscribed.token(),
        "payload": b'{"type":"challenge","challenge_id":"c1","server_id":"s1","action":"secret"}',
        "expires_at": int(time.time()) + 300,
        "collapse_id": "c1",
        "priority": "high",
    }
    return OutgoingPush(**{**fields, **changed})
