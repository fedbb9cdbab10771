"""Idle WebSockets of a relay: how many devices can be connected at once, and their memory.

    python -m loadtest.sockets --devices 10000        starts a relay on SQLite

The devices are written into the registry before the relay starts, since the relay limits registrations per address.
Then each device connects, authenticates and stays connected. Exits with 1 when a socket is lost, or when the relay uses
more than --at-most MB.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import time
from pathlib import Path

import uvloop
from websockets.asyncio.client import ClientConnection

from loadtest.listening import enrol, listen_all
from loadtest.usage import children
from relay.registry.sealing import Sealer
from relay.registry.sqlite.registry import SqliteRegistry
from sigil.device import Device
from tests.support.live_relay import LiveRelay
from tests.support.ports import free_port


def memory(pids: list[int]) -> float:
    """The proportional memory (PSS) of these processes in MB."""
    total = 0
    for pid in pids:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1])
    return total / 1000


async def run(relay: LiveRelay, devices: list[Device], seconds: float) -> tuple[float, float, int]:
    """MB before and after, and the number of sockets that are still open after `seconds`."""
    before = memory([relay.pid, *children(relay.pid)])
    began = time.perf_counter()
    sockets = await listen_all(relay, devices)
    print(f"{len(sockets)} connected and authenticated in {time.perf_counter() - began:.0f} s")
    answering = [asyncio.create_task(answer_pings(socket)) for socket in sockets]
    await asyncio.sleep(seconds)
    after, still_open = memory([relay.pid, *children(relay.pid)]), sum(not task.done() for task in answering)
    for task in answering:
        task.cancel()
    return before, after, still_open


async def answer_pings(socket: ClientConnection) -> None:
    async for frame in socket:
        if json.loads(frame)["type"] == "ping":
            await socket.send('{"type":"pong"}')


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--devices", type=int, default=10_000)
    parser.add_argument(
        "--seconds", type=float, default=60, help="to stay connected; the relay sends a heartbeat every 25 s"
    )
    parser.add_argument("--at-most", type=float, default=500, help="MB of all processes of the relay")
    parser.add_argument("--granian", action="store_true", help="through the main port, not RELAY_WS_PORT")
    options = parser.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    devices = [Device.generate("Ed25519") for _ in range(options.devices)]
    relay = LiveRelay(**({} if options.granian else {"RELAY_WS_PORT": str(free_port())}))
    uvloop.run(enrol(SqliteRegistry(Path(relay.environ["RELAY_DATA_DIR"]) / "relay.db"), Sealer([]), devices))
    with relay:
        before, after, still_open = uvloop.run(run(relay, devices, options.seconds))
    kb_per_socket = (after - before) * 1000 / max(1, options.devices)
    print(f"{still_open} of {options.devices} still connected after {options.seconds:.0f} s")
    print(f"relay: {before:.0f} MB before, {after:.0f} MB with all sockets, {kb_per_socket:.1f} kB per socket")
    return 0 if still_open == options.devices and after <= options.at_most else 1


if __name__ == "__main__":
    raise SystemExit(main())
