"""Devices of a load run that listen at a relay."""

from __future__ import annotations

import asyncio
import json
import time

from websockets.asyncio.client import ClientConnection, connect

from relay.registry.model import Device as Registered
from relay.registry.port import Registry
from relay.registry.sealing import Sealer
from sigil.device import Device
from sigil.protocol import signed_bytes
from sigil.protocol.encoding import decode_base64, encode_base64
from tests.support.live_relay import LiveRelay

_AT_ONCE = 50
_PER_ADDRESS = 100


async def enrol(registry: Registry, sealer: Sealer, devices: list[Device]) -> None:
    """Put them into a registry before its relay starts: registering is limited by address."""
    await registry.open(lambda channel, data: None)
    now = int(time.time())
    for device in devices:
        name = bytes.fromhex(device.fingerprint)
        token = sealer.seal("token", name, "websocket", b"")
        await registry.register(Registered(name, device.public.wire, "websocket", token, now, seen_at=now))
    await registry.close()


async def listen_all(relay: LiveRelay, devices: list[Device]) -> list[ClientConnection]:
    """An authenticated socket for each of them, in their order."""
    gate = asyncio.Semaphore(_AT_ONCE)
    return list(await asyncio.gather(*(_listen(relay, device, n, gate) for n, device in enumerate(devices))))


async def _listen(relay: LiveRelay, device: Device, number: int, gate: asyncio.Semaphore) -> ClientConnection:
    # From one of many addresses of this host: of one, few may be unauthenticated.
    address = (f"127.0.{1 + number // _PER_ADDRESS // 250}.{1 + number // _PER_ADDRESS % 250}", 0)
    async with gate:
        socket = await connect(
            relay.ws_url, ping_interval=None, proxy=None, compression=None, local_addr=address, open_timeout=60
        )
        challenge = decode_base64(json.loads(await socket.recv())["challenge"], "")
        signature = encode_base64(device._key.sign(signed_bytes.relay_ws_auth(relay.url, challenge)))
        answer = {"type": "auth_response", "device_public_key": device.wire_key, "signature": signature}
        await socket.send(json.dumps(answer))
        told = json.loads(await socket.recv())
        if told["type"] != "auth_success":
            raise RuntimeError(f"a device was not let in: {told}")
        return socket
