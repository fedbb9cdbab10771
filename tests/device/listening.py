"""A listener connected to a scripted relay, both in one event loop, in which sleeping takes no time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from sigil.device import Device, DeviceError, ServerPin, verify_info, verify_payload
from sigil.device.approval_checks import verify_mpa_payload
from sigil.device.client import Inbox, RefusedPayload
from sigil.device.relay import Listener, ListenerTiming, RelayClient
from tests.device.fake_relay import GUARD_SECONDS, FakeRelay, Heard, Peer, Registry, Script
from tests.device.fake_server import NOW, as_json, honest_info, identity, make_mpa_payload, make_payload

SERVER = identity()
PIN: ServerPin = verify_info(as_json(honest_info(SERVER)), "https://auth.example.com")
DEVICE = Device.generate()


def payload(number: int = 1, **changes: Any) -> dict[str, Any]:
    return make_payload(SERVER, DEVICE.public, number=number, **changes)


def reference(number: int = 1, **changes: Any) -> dict[str, Any]:
    whole = payload(number)
    return {name: whole[name] for name in ("type", "challenge_id", "server_id")} | changes


def mpa_payload(number: int = 1, **changes: Any) -> dict[str, Any]:
    return make_mpa_payload(SERVER, DEVICE.public, number=number, **changes)


class Pending:
    """The pending list of a server; `failures` are raised first."""

    def __init__(self) -> None:
        self.listed: list[dict[str, Any]] = []
        self.refused: list[RefusedPayload] = []
        self.failures: list[DeviceError] = []
        self.fetches = 0

    async def __call__(self) -> Inbox:
        self.fetches += 1
        if self.failures:
            raise self.failures.pop(0)
        challenges = [item for item in self.listed if item["type"] == "challenge"]
        shown = [verify_payload(as_json(item), PIN, DEVICE.public, NOW) for item in challenges]
        requests = [item for item in self.listed if item["type"] == "mpa"]
        approvals = [verify_mpa_payload(as_json(item), PIN, DEVICE.public, NOW) for item in requests]
        return Inbox(shown, list(self.refused), approvals)

    async def until_fetched(self, times: int) -> None:
        async with asyncio.timeout(GUARD_SECONDS):
            while self.fetches < times:
                await asyncio.sleep(0)


class Run:
    """A listener at a scripted relay, and the events that it reported."""

    def __init__(self, relay: FakeRelay, listener: Listener, heard: Heard, registry: Registry) -> None:
        self.relay, self.listener, self.heard, self.registry = relay, listener, heard, registry
        self.slept: list[float] = []
        self.task: asyncio.Task[None] = asyncio.create_task(listener.run())

    async def ended(self) -> None:
        async with asyncio.timeout(GUARD_SECONDS):
            await self.task


Listen = Callable[..., Any]


def listening_at(clock: Callable[[], float]) -> Listen:
    """Randomness returns the ceiling, so that waits are known; sleeping takes no time."""

    @asynccontextmanager
    async def listening(
        *scripts: Script,
        inbox: Callable[[], Awaitable[Inbox]] | None = None,
        reregister: bool = False,
        monotonic: Callable[[], float] = lambda: 0.0,
        silence: float = float(GUARD_SECONDS),
    ) -> AsyncIterator[Run]:
        slept: list[float] = []

        async def sleep(seconds: float) -> None:
            slept.append(seconds)
            await asyncio.sleep(0)

        timing = ListenerTiming(clock, monotonic, sleep, lambda low, high: high, silence)
        heard = Heard()
        async with FakeRelay(*scripts) as relay:
            registry = Registry(relay.origin)
            async with RelayClient(relay.origin, transport=registry.transport()) as client:
                listener = Listener(DEVICE, client, PIN, heard, inbox=inbox, reregister=reregister, timing=timing)
                run = Run(relay, listener, heard, registry)
                run.slept = slept
                try:
                    yield run
                finally:
                    heard.release()
                    run.task.cancel()
                    await asyncio.wait([run.task])

    return listening


def pushing(*payloads: dict[str, Any]) -> Script:
    """Pushes with the numbers 1, 2, …, each acknowledged before the next."""

    async def script(peer: Peer) -> None:
        await peer.welcome()
        for number, item in enumerate(payloads, start=1):
            await peer.push(item, number)
            await peer.acknowledged(number)
        await peer.gone()

    return script


def pushing_then_breaking_off(*payloads: dict[str, Any]) -> Script:
    async def script(peer: Peer) -> None:
        await peer.welcome()
        for number, item in enumerate(payloads, start=1):
            await peer.push(item, number)
            await peer.acknowledged(number)
        peer.connection.transport.abort()

    return script


def closing(code: int) -> Script:
    async def script(peer: Peer) -> None:
        await peer.welcome()
        await peer.close(code)

    return script


async def breaking_off(peer: Peer) -> None:
    await peer.welcome()
    peer.connection.transport.abort()


def rejecting_auth(error: str) -> Script:
    return lambda peer: peer.reject_auth(error)
