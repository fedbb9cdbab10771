"""Complete challenges per second of a running server, by a generator that does as little as it can.

    python -m loadtest.lean                          starts a server of its own, with 2 workers
    python -m loadtest.lean --url URL --ca FILE      loads a running one; the API key comes from SIGIL_API_KEY

A complete challenge is `POST /challenge` with an API key and `POST /respond` with the device's signature. Each
connection does one after the other (closed loop), over TLS and HTTP/1.1. Devices do not check the server here; the
server does all that it does for anyone. It has to run with SIGIL_DEVICE_RATE=off, since few devices answer much.

Machines differ and are noisy: beside the rate stands how many raw P-256 verifications one core of this machine could
have made in the time of one complete challenge, measured before and after.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import ssl
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import cast
from urllib.parse import urlsplit

import uvloop

from loadtest.approvals import answer, approval, creation
from loadtest.server import calibrate, live_server
from loadtest.usage import ProcessUsage, server_processes
from sigil.device import Device
from sigil.protocol.keys import SUITES, Suite
from sigil.protocol.messages import ChallengeCreated, decode


@dataclass
class Results:
    """Latencies in seconds of complete challenges that were verified, and what else was answered."""

    create: list[float] = field(default_factory=list)
    answer: list[float] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)
    stop_at: float = 0.0


class Connection(asyncio.Protocol):
    """One device on one keep-alive connection: creates a challenge, answers it, begins again."""

    def __init__(self, host: str, api_key: str, device: Device, results: Results) -> None:
        self._device = device
        self._results = results
        self._buffer = b""
        self._answering = False
        self._since = 0.0
        self.closed = asyncio.get_running_loop().create_future()
        body = creation(device)
        head = f"Host: {host}\r\nContent-Type: application/json\r\n"
        self._create = (
            f"POST /challenge HTTP/1.1\r\n{head}Authorization: Bearer {api_key}\r\nContent-Length: {len(body)}\r\n\r\n"
        ).encode() + body
        self._respond_head = f"POST /respond HTTP/1.1\r\n{head}Content-Length: ".encode()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's TLS transport is no asyncio.Transport by type.
        self._transport = cast(asyncio.Transport, transport)
        self._send(self._create)

    def _send(self, request: bytes) -> None:
        self._since = time.perf_counter()
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, found, rest = self._buffer.partition(b"\r\n\r\n")
        if not found:
            return
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r")[0] or 0)
        if len(rest) < length:
            return
        self._buffer = b""
        self._received(head[9:12].decode(), rest)

    def _received(self, status: str, body: bytes) -> None:
        took = time.perf_counter() - self._since
        if status not in {"200", "201"}:
            self._results.errors[status] += 1
            self._answering = True
        else:
            (self._results.answer if self._answering else self._results.create).append(took)
        if self._answering:
            self._answering = False
            if time.perf_counter() > self._results.stop_at:
                self._transport.close()
                return
            self._send(self._create)
        else:
            self._answering = True
            self._send(self._respond(body))

    def _respond(self, body: bytes) -> bytes:
        created = decode(body, ChallengeCreated)
        answered = answer(self._device, created, approval(self._device, created))
        return self._respond_head + b"%d\r\n\r\n" % len(answered) + answered

    def connection_lost(self, exc: Exception | None) -> None:
        if exc is not None or time.perf_counter() < self._results.stop_at:
            self._results.errors["connection lost"] += 1
        self.closed.set_result(None)


@dataclass(frozen=True)
class Target:
    url: str
    tls: ssl.SSLContext
    api_key: str


async def load(target: Target, suite: Suite, *, connections: int, seconds: float) -> Results:
    """Run `connections` closed loops for `seconds`, not counting a warm-up of a tenth of it."""
    parts = urlsplit(target.url)
    loop = asyncio.get_running_loop()
    results = Results(stop_at=time.perf_counter() + seconds * 1.1)

    async def connect() -> Connection:
        protocol = Connection(parts.netloc, target.api_key, Device.generate(suite), results)
        await loop.create_connection(lambda: protocol, parts.hostname or "", parts.port or 443, ssl=target.tls)
        return protocol

    running = [await connect() for _ in range(connections)]
    await asyncio.sleep(seconds * 0.1)
    results.create.clear()
    results.answer.clear()
    await asyncio.gather(*(connection.closed for connection in running))
    return results


def _percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))] * 1000 if values else float("nan")


def _report(suite: str, results: Results, seconds: float, verifications: float) -> None:
    rate = len(results.answer) / seconds
    print(f"{suite:<8} {rate:8.0f} complete challenges/s", end="")
    print(f" = one for {verifications / rate if rate else float('inf'):4.1f} verifications of a core", end="")
    for name, values in (("create", results.create), ("answer", results.answer)):
        print(f"   {name} p50 {_percentile(values, 0.5):5.1f} ms  p99 {_percentile(values, 0.99):5.1f} ms", end="")
    print(f"   errors {dict(results.errors) or 0}")


def _run(target: Target, options: argparse.Namespace, processes: Mapping[str, int]) -> bool:
    good = True
    for suite in options.suite or SUITES:
        before = calibrate()
        usage = ProcessUsage({**processes, "generator": os.getpid()})
        usage.sample()
        results = uvloop.run(load(target, suite, connections=options.connections, seconds=options.seconds))
        usage.sample()
        _report(suite, results, options.seconds, (before + calibrate()) / 2)
        print("\n".join(usage.between().lines()))
        good = good and not results.errors and bool(results.answer)
    return good


def main() -> int:
    """Exit code 1 when anything but verified challenges came back."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url")
    parser.add_argument("--ca", help="certificate to trust")
    parser.add_argument("--suite", action="append", choices=SUITES, help="default: all, one after the other")
    parser.add_argument("--connections", type=int, default=48)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--workers", type=int, default=2, help="of the server that is started")
    options = parser.parse_args()
    if options.url:
        tls = ssl.create_default_context(cafile=options.ca)
        return 0 if _run(Target(options.url, tls, os.environ["SIGIL_API_KEY"]), options, {}) else 1
    with live_server(options.workers) as server:
        processes = server_processes(server.pid, server.workers())
        good = _run(Target(server.url, server.tls(), server.api_key), options, processes)
    return 0 if good else 1


if __name__ == "__main__":
    raise SystemExit(main())
