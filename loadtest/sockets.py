"""Idle WebSockets of a relay: how many devices may wait at once, and what they cost in memory.

    python -m loadtest.sockets --devices 10000        starts a relay of its own, on SQLite

Devices are put into the registry before the relay starts, since registering is limited by address; then each of them
connects, authenticates and stays. Fails when a socket is lost, or the relay takes more than --at-most MB.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import time
from pathlib import Path
from typing import Any

import uvloop
from websockets.asyncio.client import ClientConnection, connect

from relay.registry import Device as Registered
from relay.sealing import Sealer
from relay.sqlite import SqliteRegistry
from sigil.device import Device
from sigil.protocol import signed_bytes
from sigil.protocol.encoding import decode_base64, encode_base64
from tests.live import free_port
from tests.live_relay import LiveRelay

_AT_ONCE = 50
_PER_ADDRESS = 100


def memory(pids: list[int]) -> float:
    """MB of these processes that no other shares, or their part of it."""
    total = 0
    for pid in pids:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1])
    return total / 1000


def family(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *map(int, children)]


async def enrol(path: Path, devices: list[Device]) -> None:
    registry, sealer = SqliteRegistry(path), Sealer([])
    await registry.open(lambda channel, data: None)
    now = int(time.time())
    for device in devices:
        name = bytes.fromhex(device.fingerprint)
        token = sealer.seal("token", name, "websocket", b"")
        await registry.register(Registered(name, device.public.wire, "websocket", token, now, seen_at=now))
    await registry.close()


async def listen(relay: LiveRelay, device: Device, number: int, gate: asyncio.Semaphore) -> ClientConnection:
    """An authenticated socket, from one of many addresses of this host: of one, few may be unauthenticated."""
    address = (f"127.0.{1 + number // _PER_ADDRESS // 250}.{1 + number // _PER_ADDRESS % 250}", 0)
    async with gate:
        socket = await connect(
            relay.ws_url, ping_interval=None, proxy=None, compression=None, local_addr=address, open_timeout=60
        )
        challenge = decode_base64(json.loads(await socket.recv())["challenge"], "")
        signature = encode_base64(device._key.sign(signed_bytes.relay_ws_auth(relay.url, challenge)))
        answer: dict[str, Any] = {"type": "auth_response", "device_public_key": device.wire_key, "signature": signature}
        await socket.send(json.dumps(answer))
        told = json.loads(await socket.recv())
        if told["type"] != "auth_success":
            raise RuntimeError(f"a device was not let in: {told}")
        return socket


async def run(relay: LiveRelay, devices: list[Device], seconds: float) -> tuple[float, float, int]:
    """MB before and after, and how many sockets are still open after `seconds`."""
    before = memory(family(relay.pid))
    gate, began = asyncio.Semaphore(_AT_ONCE), time.perf_counter()
    sockets = await asyncio.gather(*(listen(relay, device, n, gate) for n, device in enumerate(devices)))
    print(f"{len(sockets)} connected and authenticated in {time.perf_counter() - began:.0f} s")
    answering = [asyncio.create_task(answer_pings(socket)) for socket in sockets]
    await asyncio.sleep(seconds)
    after, still = memory(family(relay.pid)), sum(not task.done() for task in answering)
    for task in answering:
        task.cancel()
    return before, after, still


async def answer_pings(socket: ClientConnection) -> None:
    async for frame in socket:
        if json.loads(frame)["type"] == "ping":
            await socket.send('{"type":"pong"}')


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--devices", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=60, help="to stay connected; a heartbeat comes every 25")
    parser.add_argument("--at-most", type=float, default=500, help="MB of all processes of the relay")
    parser.add_argument("--granian", action="store_true", help="through the main port, not RELAY_WS_PORT")
    options = parser.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    devices = [Device.generate("Ed25519") for _ in range(options.devices)]
    relay = LiveRelay(**({} if options.granian else {"RELAY_WS_PORT": str(free_port())}))
    uvloop.run(enrol(Path(relay.environ["RELAY_DATA_DIR"]) / "relay.db", devices))
    with relay:
        before, after, still = uvloop.run(run(relay, devices, options.seconds))
    each = (after - before) * 1000 / max(1, options.devices)
    print(f"{still} of {options.devices} still connected after {options.seconds:.0f} s")
    print(f"relay: {before:.0f} MB before, {after:.0f} MB with all sockets, {each:.1f} kB a socket")
    return 0 if still == options.devices and after <= options.at_most else 1


if __name__ == "__main__":
    raise SystemExit(main())
