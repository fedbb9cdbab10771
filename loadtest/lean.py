"""Complete challenges or approval requests per second of a running server, with a generator that uses little CPU.

    python -m loadtest.lean                          starts a server of its own, with 2 workers
    python -m loadtest.lean --what approvals         approval requests instead of challenges
    python -m loadtest.lean --url URL --ca FILE      loads a running one; the API key comes from SIGIL_API_KEY

A complete challenge is `POST /challenge` with an API key and `POST /respond` with the device's signature. A complete
approval request is `POST /mpa/request` for five devices in three groups, the bytes that they sign, and the two votes
that decide it. Each connection sends one request after the other (closed loop), over TLS and HTTP/1.1. The devices do
not check the server's signature. The server must run with SIGIL_DEVICE_RATE=off, since few devices send many responses.

Machines differ and are noisy. So each rate is printed with the number of raw P-256 verifications that one core of this
machine makes in the time of one challenge, measured before and after the run.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import ssl
import time
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import cast
from urllib.parse import urlsplit

import uvloop

from loadtest.rounds import ROUNDS, Http, Round
from loadtest.server import calibrate, live_server
from loadtest.usage import ProcessUsage, server_processes
from sigil.protocol.keys import SUITES, Suite


@dataclass
class Results:
    """Latencies in seconds of successful requests by name, and the number of errors by status."""

    latencies: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    complete: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    stop_at: float = 0.0

    def begin(self) -> None:
        """Ends the warm-up: drops its results."""
        self.latencies.clear()
        self.complete = 0


class Connection(asyncio.Protocol):
    """One keep-alive connection that runs one round after the other."""

    def __init__(self, round_: Round, results: Results) -> None:
        self._round = round_
        self._results = results
        self._buffer = b""
        self._step = 0
        self._since = 0.0
        self.closed = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's TLS transport does not inherit from asyncio.Transport.
        self._transport = cast(asyncio.Transport, transport)
        self._send(0, b"")

    def _send(self, step: int, before: bytes) -> None:
        request = self._round.request(step, before)
        self._step, self._since = step, time.perf_counter()
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
        last = self._step == len(self._round.names) - 1
        ok = status in {"200", "201"}
        if ok:
            self._results.latencies[self._round.names[self._step]].append(time.perf_counter() - self._since)
            self._results.complete += last
        else:
            self._results.errors[status] += 1
        if ok and not last:
            self._send(self._step + 1, body)
        elif time.perf_counter() > self._results.stop_at:
            self._transport.close()
        else:
            self._send(0, b"")

    def connection_lost(self, exc: Exception | None) -> None:
        if exc is not None or time.perf_counter() < self._results.stop_at:
            self._results.errors["connection lost"] += 1
        self.closed.set_result(None)


@dataclass(frozen=True)
class Target:
    url: str
    tls: ssl.SSLContext
    api_key: str


async def load(target: Target, what: str, suite: Suite, *, connections: int, seconds: float) -> Results:
    """Runs `connections` closed loops for `seconds`, after a warm-up of a tenth of that time."""
    parts = urlsplit(target.url)
    loop = asyncio.get_running_loop()
    results = Results(stop_at=time.perf_counter() + seconds * 1.1)

    async def connect() -> Connection:
        protocol = Connection(ROUNDS[what](Http(parts.netloc, target.api_key), suite), results)
        await loop.create_connection(lambda: protocol, parts.hostname or "", parts.port or 443, ssl=target.tls)
        return protocol

    running = [await connect() for _ in range(connections)]
    await asyncio.sleep(seconds * 0.1)
    results.begin()
    await asyncio.gather(*(connection.closed for connection in running))
    return results


def _percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))] * 1000 if values else float("nan")


def _report(what: str, suite: str, results: Results, seconds: float, verifications: float) -> None:
    rate = results.complete / seconds
    print(f"{suite:<8} {rate:8.0f} complete {what}/s", end="")
    print(f"   one = {verifications / rate if rate else float('inf'):4.1f} verifications of a core", end="")
    for name, values in results.latencies.items():
        print(f"   {name} p50 {_percentile(values, 0.5):5.1f} ms  p99 {_percentile(values, 0.99):5.1f} ms", end="")
    print(f"   errors {dict(results.errors) or 0}")


def _run(target: Target, options: argparse.Namespace, processes: Mapping[str, int]) -> bool:
    ok = True
    for suite in options.suite or SUITES:
        before = calibrate()
        usage = ProcessUsage({**processes, "generator": os.getpid()})
        usage.sample()
        loading = load(target, options.what, suite, connections=options.connections, seconds=options.seconds)
        results = uvloop.run(loading)
        usage.sample()
        _report(options.what, suite, results, options.seconds, (before + calibrate()) / 2)
        print("\n".join(usage.between().lines()))
        ok = ok and not results.errors and bool(results.complete)
    return ok


def main() -> int:
    """Exit code 1 after any error, and when no round was completed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url")
    parser.add_argument("--ca", help="certificate to trust")
    parser.add_argument("--what", choices=ROUNDS, default="challenges")
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
        ok = _run(Target(server.url, server.tls(), server.api_key), options, processes)
    return 0 if ok else 1


if __name__ == "__main__":
    raise SystemExit(main())
