"""Pushes that were admitted, to their transports; each attempt ends in one outcome in the registry."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from relay.registry import Device, Platform, Push, Registry, RegistryBusy, Settled
from relay.sealing import Sealer, Unsealable
from relay.transports import Letter, Outcome, Transport
from sigil.serving import logs

# Attempts in flight of one provider in one worker: a slow one keeps its own permits, and nobody else's.
_PERMITS = 256
_MAX_BACKOFF = 60.0


class OnOutcome(Protocol):
    def __call__(self, provider: str, status: str, seconds: float) -> None: ...


class Dispatch:
    """`transports` by platform; a platform without one is off. `clock` gives Unix seconds."""

    def __init__(
        self,
        *,
        registry: Registry,
        sealer: Sealer,
        transports: Mapping[Platform, Transport],
        clock: Callable[[], float],
        on_outcome: OnOutcome,
    ) -> None:
        self._registry = registry
        self._sealer = sealer
        self._transports = transports
        self._permits = {platform: asyncio.Semaphore(_PERMITS) for platform in transports}
        self._clock = clock
        self._on_outcome = on_outcome
        self._running: set[asyncio.Task[Settled | None]] = set()

    async def deliver(self, admitted: Sequence[tuple[Push, Device]], seconds: float) -> dict[str, Settled]:
        """Begin all, and give by push_key what is decided after `seconds`; the rest goes on by itself."""
        tasks = [asyncio.create_task(self._attempt(push, device)) for push, device in admitted]
        self._running.update(tasks)
        for task in tasks:
            task.add_done_callback(self._running.discard)
        if not tasks:
            return {}
        done, _ = await asyncio.wait(tasks, timeout=seconds)
        return {settled.push_key: settled for task in done if (settled := task.result()) is not None}

    async def retry(self, limit: int) -> int:
        """Try what is due again, one batch; how many."""
        # Two rows a push, and none beyond what there are permits for.
        claimed = await self._registry.claim(self._clock(), limit)
        await self.deliver(claimed, seconds=30)
        return len(claimed)

    async def close(self) -> None:
        """Give what is in flight a moment to end; what does not is taken over by its lease."""
        if self._running:
            await asyncio.wait(self._running, timeout=2)
        for task in self._running:
            task.cancel()
        for transport in {id(transport): transport for transport in self._transports.values()}.values():
            await transport.close()

    async def _attempt(self, push: Push, device: Device) -> Settled | None:
        began = self._clock()
        outcome = await self._send(push, device)
        settled = self._settled(push, outcome)
        self._on_outcome(push.platform, settled.status, self._clock() - began)
        try:
            if outcome.kind == "gone":
                await self._registry.evict(
                    device.fingerprint, outcome.error or "gone", device.registered_at, int(self._clock())
                )
            await self._registry.settle([settled], self._clock())
        except RegistryBusy:
            # The lease brings it back: once more is better than never.
            return None
        return settled

    async def _send(self, push: Push, device: Device) -> Outcome:
        transport = self._transports.get(push.platform)
        if transport is None:
            return Outcome("refused", "provider_off")
        try:
            letter = self._letter(push, device)
        except Unsealable as error:
            logs.error("token_cannot_be_opened", exc=error, message="TOKEN_ENCRYPTION_KEY is not the one it had")
            return Outcome("refused", "sealed_with_another_key")
        async with self._permits[push.platform]:
            return await transport.send(letter)

    def _letter(self, push: Push, device: Device) -> Letter:
        wanted = push.push
        return Letter(
            push_id=wanted.push_id.hex(),
            fingerprint=device.fingerprint.hex(),
            token=self._sealer.open("token", device.fingerprint, device.platform, device.token).decode(),
            payload=self._sealer.open("payload", device.fingerprint, "", wanted.payload),
            expires_at=wanted.expires_at,
            collapse_id=wanted.collapse_id,
            priority=wanted.priority,
        )

    def _settled(self, push: Push, outcome: Outcome) -> Settled:
        name = (push.server_id, push.push.push_key)
        if outcome.kind == "delivered":
            return Settled(*name, "delivered")
        if outcome.kind == "gone":
            return Settled(*name, "token_evicted", outcome.error)
        if outcome.kind == "refused":
            return Settled(*name, "failed", outcome.error)
        backoff = min(2.0**push.attempts, _MAX_BACKOFF) * random.uniform(0.8, 1.2)  # noqa: S311 - jitter
        due = self._clock() + max(outcome.after, backoff)
        if due >= push.push.expires_at:
            return Settled(*name, "failed", outcome.error)
        return Settled(*name, "queued", outcome.error, due)
