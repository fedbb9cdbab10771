"""Relays that tests share; each test uses devices and pushes of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from relay.registry.sqlite.registry import SqliteRegistry
from sigil.device import Device
from tests.support.live_relay import LiveRelay, Server


@pytest.fixture(scope="module")
def settings() -> dict[str, str]:
    """More settings of the relay, for modules that override this fixture."""
    return {}


@pytest.fixture(scope="module")
def relay(settings: dict[str, str]) -> Iterator[LiveRelay]:
    with LiveRelay(RELAY_PUSH_CONSOLE="true", **settings) as relay:
        yield relay
        assert not relay.events("internal_error")
        assert not relay.events("background_loop_failed")


@pytest.fixture
def http(relay: LiveRelay) -> Iterator[httpx.Client]:
    with relay.client() as client:
        yield client


@pytest.fixture(scope="module")
def server(relay: LiveRelay) -> Iterator[Server]:
    """The first server to connect: trusted on first use."""
    with relay.client() as client:
        server = Server(client)
        assert server.register().status_code == 200
        yield server


@pytest.fixture
async def registry(tmp_path: Path) -> AsyncIterator[SqliteRegistry]:
    """A new registry without a handler for notifications."""
    registry = SqliteRegistry(tmp_path / "relay.db")
    await registry.open(lambda channel, data: None)
    yield registry
    await registry.close()


@pytest.fixture
def device() -> Device:
    return Device.generate()


def wanted(device: Device, key: str, **members: Any) -> dict[str, Any]:
    """One push of `POST /push`."""
    payload = {"type": "challenge", "challenge_id": key, "text": "Grüße"}
    return {"push_key": key, "fingerprint": device.fingerprint, "payload": payload, **members}
