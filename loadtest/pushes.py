"""Challenges from their creation to the device and back, over a server, a relay and listening devices.

    python -m loadtest.pushes                        relay on SQLite, one worker
    python -m loadtest.pushes --postgres             relay on a new PostgreSQL (from the wheel that the tests use)

For each device the generator creates a challenge, waits for its push on the WebSocket, acknowledges and approves it,
and starts again (closed loop). It prints rates, latencies from `POST /challenge` to the frame, and the CPU of each side
per push. It exits with 1 when a push is lost or arrives twice, a challenge is not verified, or the rate is below
--at-least on a quiet machine.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import ssl
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import cast

import uvloop
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from loadtest.approvals import creation_body, response_body, sign_approval
from loadtest.listening import enrol, listen_all
from loadtest.usage import ProcessUsage, Usage, children, server_processes
from loadtest.verdict import judge
from relay.app.wiring import create_sealer, open_registry
from relay.config import load_storage
from sigil.device import Device
from sigil.protocol.messages.challenges import ChallengeCreated
from sigil.protocol.messages.decoding import decode
from tests.support.live import LiveServer, wait_until
from tests.support.live_relay import LiveRelay
from tests.support.postgres import PostgresServer

_UNLIMITED = {"SIGIL_DEVICE_RATE": "off", "SIGIL_RATE_LIMIT": "off", "SIGIL_STORE_SIZE": "1GiB"}
_FRAME_SECONDS = 30.0
_KEY = "an-encryption-key-for-a-load-run-only"


@dataclass
class Results:
    """Seconds from each `POST /challenge` to its frame, and the errors."""

    frames: list[float] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)


class Http(asyncio.Protocol):
    """One request after the other on one connection."""

    def __init__(self, host: str, api_key: str) -> None:
        self._head = f"Host: {host}\r\nContent-Type: application/json\r\nAuthorization: Bearer {api_key}\r\n"
        self._buffer = b""
        self._answer: asyncio.Future[tuple[str, bytes]] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's TLS transport does not inherit from asyncio.Transport.
        self.transport = cast(asyncio.Transport, transport)

    async def post(self, path: str, body: bytes) -> tuple[str, bytes]:
        """Status and body."""
        self._answer = asyncio.get_running_loop().create_future()
        self.transport.write(f"POST {path} HTTP/1.1\r\n{self._head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        return await self._answer

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, found, rest = self._buffer.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r")[0] or 0)
        if found and len(rest) >= length and self._answer is not None:
            self._buffer = b""
            self._answer.set_result((head[9:12].decode(), rest))

    def connection_lost(self, exc: Exception | None) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(ConnectionError("the server closed the connection"))


class Loop:
    """One device: creates a challenge, waits for its push, acknowledges it, and approves."""

    def __init__(self, device: Device, socket: ClientConnection, http: Http, results: Results) -> None:
        self._device, self._socket, self._http, self._results = device, socket, http, results
        self._body = creation_body(device)
        self._seen: set[str] = set()

    async def run(self, until: float) -> None:
        try:
            while time.perf_counter() < until:
                await self._run_once()
        except (ConnectionError, ConnectionClosed, TimeoutError) as error:
            self._results.errors[type(error).__name__] += 1

    async def _run_once(self) -> None:
        began = time.perf_counter()
        status, body = await self._http.post("/challenge", self._body)
        if status != "201":
            self._results.errors[f"create {status}"] += 1
            return
        created = decode(body, ChallengeCreated)
        async with asyncio.timeout(_FRAME_SECONDS):
            await self._wait_for_push(created.challenge_id)
        self._results.frames.append(time.perf_counter() - began)
        approved = response_body(self._device, created, sign_approval(self._device, created))
        status, _ = await self._http.post("/respond", approved)
        if status != "200":
            self._results.errors[f"answer {status}"] += 1

    async def _wait_for_push(self, challenge_id: str) -> None:
        while True:
            frame = json.loads(await self._socket.recv())
            if frame["type"] == "ping":
                await self._socket.send('{"type":"pong"}')
                continue
            await self._socket.send(json.dumps({"type": "ack", "push_id": frame["push_id"]}))
            if frame["push_id"] in self._seen:
                self._results.errors["push arrived twice"] += 1
            self._seen.add(frame["push_id"])
            if frame.get("challenge_id") == challenge_id:
                return


@dataclass(frozen=True)
class Stack:
    relay: LiveRelay
    server: LiveServer
    devices: list[Device]

    def processes(self) -> dict[str, int]:
        workers = children(self.relay.pid)
        relay = {f"relay {number}": pid for number, pid in enumerate([self.relay.pid, *workers])}
        return {**relay, **server_processes(self.server.pid, self.server.workers()), "generator": os.getpid()}


@contextmanager
def stack(options: argparse.Namespace) -> Iterator[Stack]:
    devices = [Device.generate("Ed25519") for _ in range(options.devices)]
    with ExitStack() as parts:
        settings = {"TOKEN_ENCRYPTION_KEY": _KEY, "RELAY_PUSH_RATE": "off", "RELAY_WORKERS": str(options.relay_workers)}
        if options.postgres:
            settings["DATABASE_URL"] = parts.enter_context(PostgresServer()).new_database()
        relay = LiveRelay(**settings)
        storage = load_storage(relay.environ)
        uvloop.run(enrol(open_registry(storage, "load"), create_sealer(storage), devices))
        parts.enter_context(relay)
        server = parts.enter_context(LiveServer(workers=options.workers, RELAY_URL=relay.url, **_UNLIMITED))
        wait_until(lambda: len(server.workers()) == options.workers, "all workers to be ready")
        yield Stack(relay, server, devices)


async def load(running: Stack, usage: ProcessUsage, seconds: float) -> Results:
    """Runs all loops for `seconds`, after a warm-up of a tenth of that time."""
    loop, results = asyncio.get_running_loop(), Results()
    host, tls = f"127.0.0.1:{running.server.port}", ssl.create_default_context(cafile=str(running.server.certificate))
    sockets = await listen_all(running.relay, running.devices)
    until = time.perf_counter() + seconds * 1.1
    tasks = []
    for device, socket in zip(running.devices, sockets, strict=True):
        http = Http(host, running.server.api_key)
        await loop.create_connection(lambda http=http: http, "127.0.0.1", running.server.port, ssl=tls)  # type: ignore[misc]
        tasks.append(asyncio.create_task(Loop(device, socket, http, results).run(until)))
    await asyncio.sleep(max(0.0, until - seconds - time.perf_counter()))
    results.frames.clear()
    usage.sample()
    await asyncio.sleep(max(0.0, until - time.perf_counter()))
    usage.sample()
    await asyncio.gather(*tasks)
    await asyncio.gather(*(socket.close() for socket in sockets))
    return results


def report(results: Results, used: Usage, seconds: float) -> None:
    rate = len(results.frames) / seconds
    latencies = sorted(results.frames) or [float("nan")]
    p50, p99 = (latencies[min(len(latencies) - 1, int(len(latencies) * share))] * 1000 for share in (0.5, 0.99))
    print(f"{rate:.0f} pushes/s, each created, received, acknowledged and approved")
    print(f"from POST /challenge to the frame: p50 {p50:.0f} ms, p99 {p99:.0f} ms")
    for name, prefix in (("relay", "relay"), ("server", "server"), ("generator", "generator")):
        print(f"CPU of one push: {name} {used.cores(prefix) / rate * 1e6 if rate else float('nan'):.0f} µs")
    print("\n".join(used.lines()))
    print(f"machine: {used.machine:.2f} of {os.cpu_count()} cores; errors {dict(results.errors) or 0}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--devices", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--workers", type=int, default=2, help="of the server")
    parser.add_argument("--relay-workers", type=int, default=1, help="more than one with --postgres only")
    parser.add_argument("--postgres", action="store_true")
    parser.add_argument("--at-least", type=float, default=0, help="pushes/s; below it a run on a quiet machine fails")
    options = parser.parse_args()
    with stack(options) as running:
        usage = ProcessUsage(running.processes())
        results = uvloop.run(load(running, usage, options.seconds))
    used = usage.between()
    report(results, used, options.seconds)
    # The processes of PostgreSQL are not watched.
    others = None if options.postgres else used.machine - used.cores("")
    errors = sum(results.errors.values()) or int(not results.frames)
    verdict = judge(len(results.frames) / options.seconds, options.at_least, "pushes/s", errors, others)
    print(verdict.line)
    return int(verdict.failed)


if __name__ == "__main__":
    raise SystemExit(main())
