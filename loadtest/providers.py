"""Pushes per second through APNs and FCM, to the stand-ins on another core.

    python -m loadtest.providers                 a relay on SQLite with one worker, then the transports alone

A signing server sends batches with `POST /push` until all pushes are delivered. The result is the rate per core of CPU
time that the relay uses, since the stand-ins and the server share the machine. Exits with 1 when the relay's result is
below --at-least and no other processes disturbed the run.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import click
import uvloop

from loadtest.usage import OtherProcesses, ProcessUsage
from loadtest.verdict import judge
from relay.config import load
from relay.registry.model import Device, Platform
from relay.registry.sealing import Sealer
from relay.registry.sqlite.registry import SqliteRegistry
from relay.transports import OutgoingPush, Transport
from relay.transports.apns import ApnsTransport
from relay.transports.fcm import FcmTransport
from tests.support.live_relay import LiveRelay, Server
from tests.support.providers import Providers, apns_token, fcm_token

_TOKEN = {"apns": apns_token, "fcm": fcm_token}
_DEVICES = 2000
_BATCH = 100
SENDERS = 6
_IN_FLIGHT = 200
ENCRYPTION_KEY = "an-encryption-key-of-more-than-32-characters"
# The size of a challenge with a short action.
_PAYLOAD = {"type": "challenge", "challenge_id": "c" * 36, "server_id": "a" * 64, "rest": "y" * 700}


async def enrol(path: Path, platform: Platform, new_token: Callable[[], str]) -> list[str]:
    """Writes devices into the registry before the relay, which limits registrations, starts; their fingerprints."""
    registry, sealer, now = SqliteRegistry(path), Sealer([ENCRYPTION_KEY]), int(time.time())
    await registry.open(lambda channel, data: None)
    names = [secrets.token_bytes(32) for _ in range(_DEVICES)]
    for name in names:
        token = sealer.seal("token", name, platform, new_token().encode())
        await registry.register(Device(name, b"", platform, token, now, seen_at=now))
    await registry.close()
    return [name.hex() for name in names]


def batches(fingerprints: Sequence[str], pushes: int) -> list[list[dict[str, object]]]:
    made = [
        {
            "push_key": f"{number}:challenge",
            "fingerprint": fingerprints[number % len(fingerprints)],
            "payload": _PAYLOAD,
            "collapse_id": str(number),
        }
        for number in range(pushes)
    ]
    return [made[start : start + _BATCH] for start in range(0, pushes, _BATCH)]


def worker_of(relay: LiveRelay) -> int:
    (ready,) = relay.events("worker_ready")
    return int(ready["pid"])


def through_the_relay(platform: Platform, pushes: int) -> float:
    """Pushes per second and core of CPU time of the relay's worker."""
    with Providers() as providers:
        relay = LiveRelay(RELAY_PUSH_RATE="off", TOKEN_ENCRYPTION_KEY=ENCRYPTION_KEY, **providers.env)
        fingerprints = uvloop.run(enrol(Path(relay.environ["RELAY_DATA_DIR"]) / "relay.db", platform, _TOKEN[platform]))
        with relay, relay.client() as client, ThreadPoolExecutor(SENDERS) as pool:
            server = Server(client)
            server.register()
            server.push(*batches(fingerprints, 1)[0])
            usage = ProcessUsage({"relay": worker_of(relay)})
            usage.sample()
            began = time.monotonic()
            list(pool.map(lambda batch: server.push(*batch), batches(fingerprints, pushes)))
            while (accepted := providers.counters(platform)["outcomes"].get("Success", 0)) < pushes:
                if time.monotonic() - began > 600:
                    raise SystemExit(f"{platform} accepted {accepted} of {pushes}")
                time.sleep(0.02)
            seconds = time.monotonic() - began
            usage.sample()
    return print_rate("relay", platform, pushes / seconds, usage.between().processes["relay"].cores)


async def transport_alone(platform: Platform, pushes: int) -> float:
    """The transport in this process, without registry, sealing and HTTP."""
    with Providers() as providers:
        os.environ["SSL_CERT_FILE"] = providers.env["SSL_CERT_FILE"]
        transport = _transport(platform, providers)
        transport.open()
        left = iter(range(pushes))

        async def send_some() -> None:
            for _ in left:
                outcome = await transport.send(_push(platform))
                if outcome.kind != "delivered":
                    raise SystemExit(f"{platform}: {outcome}")

        await transport.send(_push(platform))
        began, cpu = time.monotonic(), time.process_time()
        await asyncio.gather(*(send_some() for _ in range(_IN_FLIGHT)))
        seconds, cpu = time.monotonic() - began, time.process_time() - cpu
        await transport.close()
    return print_rate("transport", platform, pushes / seconds, cpu / seconds)


def _transport(platform: Platform, providers: Providers) -> Transport:
    config = load(providers.env)
    if platform == "apns" and config.apns is not None:
        return ApnsTransport(config.apns, time.time)
    if config.fcm is None:
        raise SystemExit("the stand-ins printed no credentials")
    return FcmTransport(config.fcm, time.time)


def _push(platform: Platform) -> OutgoingPush:
    payload = str(_PAYLOAD).replace("'", '"').encode()
    return OutgoingPush(
        secrets.token_hex(16),
        "f" * 64,
        _TOKEN[platform](),
        payload,
        int(time.time()) + 300,
        secrets.token_hex(8),
        "high",
    )


def print_rate(subject: str, platform: str, rate: float, cores: float) -> float:
    print(f"{subject:<10} {platform:<5} {rate:7.0f} pushes/s, {rate / cores:7.0f} per core of CPU time")
    return rate / cores


@click.command()
@click.option("--pushes", default=10_000, show_default=True, help="To each provider.")
@click.option(
    "--at-least",
    default=1000,
    show_default=True,
    help="Pushes/s per core of the relay; below it a run on a quiet machine fails.",
)
def main(pushes: int, at_least: int) -> None:
    platforms: tuple[Platform, ...] = ("apns", "fcm")
    others = OtherProcesses()
    slowest = min(through_the_relay(platform, pushes) for platform in platforms)
    for platform in platforms:
        uvloop.run(transport_alone(platform, pushes))
    verdict = judge(slowest, at_least, "pushes/s per core", 0, others.cores())
    print(verdict.line)
    raise SystemExit(verdict.failed)


if __name__ == "__main__":
    main()
