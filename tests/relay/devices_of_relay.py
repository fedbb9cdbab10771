"""Devices of a relay in tests: registration over HTTP, and the WebSocket protocol frame by frame."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
from websockets.asyncio.client import ClientConnection, connect

from sigil.device import Device
from sigil.protocol import signed_bytes
from sigil.protocol.encoding.text import decode_base64, encode_base64
from tests.support.live import DEADLINE
from tests.support.live_relay import LiveRelay
from tests.support.web_key import WebKey


def sign(device: Device | WebKey, message: bytes) -> str:
    return encode_base64(device.sign(message) if isinstance(device, WebKey) else device._key.sign(message))


def registration(
    device: Device | WebKey,
    client: httpx.Client,
    origin: str,
    platform: str = "websocket",
    token: str = "",
    **changed: Any,
) -> dict[str, Any]:
    """The body of `POST /devices/register`; `changed` replaces members after they were signed."""
    challenge = client.get("/devices/register/challenge").json()
    message = signed_bytes.relay_register(origin, platform, decode_base64(challenge["nonce"], ""), token)
    return {
        "device_public_key": device.wire_key,
        "push_platform": platform,
        "push_token": token,
        "challenge_id": challenge["challenge_id"],
        "signature": sign(device, message),
        **changed,
    }


def register(
    device: Device | WebKey, client: httpx.Client, origin: str, platform: str = "websocket", token: str = ""
) -> None:
    answer = client.post("/devices/register", json=registration(device, client, origin, platform, token))
    assert answer.status_code == 201, answer.text


def open_socket(relay: LiveRelay, **options: Any) -> connect:
    return connect(relay.ws_url, ping_interval=None, proxy=None, **options)


async def frame(socket: ClientConnection) -> dict[str, Any]:
    async with asyncio.timeout(DEADLINE):
        received: dict[str, Any] = json.loads(await socket.recv())
    return received


async def authenticate(device: Device | WebKey, socket: ClientConnection, origin: str) -> dict[str, Any]:
    """Answer the challenge; returns the relay's next frame."""
    challenge = await frame(socket)
    assert challenge["type"] == "auth_challenge"
    message = signed_bytes.relay_ws_auth(origin, decode_base64(challenge["challenge"], ""))
    answer = {"type": "auth_response", "device_public_key": device.wire_key, "signature": sign(device, message)}
    await socket.send(json.dumps(answer))
    return await frame(socket)


@asynccontextmanager
async def listening(relay: LiveRelay, device: Device) -> AsyncIterator[ClientConnection]:
    async with open_socket(relay) as socket:
        assert await authenticate(device, socket, relay.url) == {
            "type": "auth_success",
            "fingerprint": device.fingerprint,
        }
        yield socket


async def acknowledge(socket: ClientConnection, push: dict[str, Any]) -> None:
    await socket.send(json.dumps({"type": "ack", "push_id": push["push_id"]}))
