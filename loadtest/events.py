"""The cost of webhooks: complete challenges per second without and with a receiver, and server CPU per event.

    python -m loadtest.events --seconds 10

Each complete challenge is one event. The two runs use separate servers, one after the other; compare their ratio. The
receiver is a separate process on the same cores.
"""

from __future__ import annotations

import argparse
import os
import time
from dataclasses import dataclass

import uvloop

from loadtest.lean import Target, load
from loadtest.receiver import Receiver, receiver
from loadtest.server import live_server
from loadtest.usage import ProcessUsage, server_processes
from tests.support.live import wait_until


@dataclass(frozen=True)
class Run:
    """Complete challenges per second, and CPU seconds of the server per complete challenge, including its event."""

    rate: float
    errors: int
    cpu: float
    events: int = 0
    drain_seconds: float = 0.0


def measure(options: argparse.Namespace, events: Receiver | None) -> Run:
    settings = {"WEBHOOK_URL": events.url, "WEBHOOK_SECRET": "s" * 40} if events else {}
    with live_server(options.workers, **settings) as server:
        usage = ProcessUsage(server_processes(server.pid, server.workers()) | {"generator": os.getpid()})
        target = Target(server.url, server.tls(), server.api_key)
        usage.sample()
        results = uvloop.run(
            load(target, "challenges", "ES256", connections=options.connections, seconds=options.seconds)
        )
        began = time.perf_counter()
        # The challenges of the warm-up, a tenth of the run, are not in the results.
        if events:
            wait_until(lambda: events.count >= results.complete, "the events")
        drain_seconds = time.perf_counter() - began
        usage.sample()
        used = usage.between()
    rate = results.complete / options.seconds
    cpu = used.cores("server") * (options.seconds * 1.1 + drain_seconds) / (rate * options.seconds * 1.1)
    return Run(rate, sum(results.errors.values()), cpu, events.count if events else 0, drain_seconds)


def main() -> int:
    """Exit code 1 when there was any error."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--connections", type=int, default=48)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--workers", type=int, default=2, help="of the server")
    options = parser.parse_args()
    without_webhooks = measure(options, None)
    with receiver() as events:
        with_webhooks = measure(options, events)
    for name, run in (("without webhooks", without_webhooks), ("with webhooks", with_webhooks)):
        print(f"{name:<16} {run.rate:7.0f} complete challenges/s   {run.cpu * 1e6:5.0f} µs of server CPU each")
    ratio, cpu = with_webhooks.rate / without_webhooks.rate, with_webhooks.cpu - without_webhooks.cpu
    print(f"ratio {ratio:.2f}; an event costs {cpu * 1e6:.0f} µs of server CPU")
    print(
        f"{with_webhooks.events} events arrived, the last {with_webhooks.drain_seconds:.1f} s after the end of the load"
    )
    return 1 if without_webhooks.errors or with_webhooks.errors else 0


if __name__ == "__main__":
    raise SystemExit(main())
