"""Devices of a load test that listen at a relay."""

from __future__ import annotations

import asyncio
import json
import time

from websockets.asyncio.client import ClientConnection, connect

from relay.registry.model import Device as RegisteredDevice
from relay.registry.port import Registry
from relay.registry.sealing import Sealer
from sigil.device import Device
from sigil.protocol import signed_bytes
from sigil.protocol.encoding.text import decode_base64, encode_base64
from tests.support.live_relay import LiveRelay

_MAX_CONNECTING = 50
_PER_ADDRESS = 100


async def enrol(registry: Registry, sealer: Sealer, devices: list[Device]) -> None:
    """Writes the devices into the registry before the relay starts: the relay limits registrations per address."""
    await registry.open(lambda channel, data: None)
    now = int(time.time())
    for device in devices:
        fingerprint = bytes.fromhex(device.fingerprint)
        token = sealer.seal("token", fingerprint, "websocket", b"")
        await registry.register(RegisteredDevice(fingerprint, device.public.wire, "websocket", token, now, seen_at=now))
    await registry.close()


async def listen_all(relay: LiveRelay, devices: list[Device]) -> list[ClientConnection]:
    """Opens an authenticated socket for each device, in the same order."""
    slots = asyncio.Semaphore(_MAX_CONNECTING)
    return list(await asyncio.gather(*(_listen(relay, device, n, slots) for n, device in enumerate(devices))))


async def _listen(relay: LiveRelay, device: Device, number: int, slots: asyncio.Semaphore) -> ClientConnection:
    # Uses many addresses of this host, since the relay limits unauthenticated sockets per address.
    address = (f"127.0.{1 + number // _PER_ADDRESS // 250}.{1 + number // _PER_ADDRESS % 250}", 0)
    async with slots:
        socket = await connect(
            relay.ws_url, ping_interval=None, proxy=None, compression=None, local_addr=address, open_timeout=60
        )
        challenge = decode_base64(json.loads(await socket.recv())["challenge"], "")
        signature = encode_base64(device._key.sign(signed_bytes.relay_ws_auth(relay.url, challenge)))
        answer = {"type": "auth_response", "device_public_key": device.wire_key, "signature": signature}
        await socket.send(json.dumps(answer))
        response = json.loads(await socket.recv())
        if response["type"] != "auth_success":
            raise RuntimeError(f"the relay rejected a device: {response}")
        return socket
