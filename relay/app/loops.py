"""The background loops of a worker of the relay."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import msgspec

from relay.app.database_watch import DatabaseWatch
from relay.pushes.dispatch import Dispatch
from relay.registration.capacity import RegistrationCapacity
from relay.registration.silence import Silence
from relay.registry.key_rotation import reseal_tokens
from relay.registry.model import HISTORY_SECONDS, PRUNE_BATCH, SILENT, UNUSED, RegistryBusy
from relay.registry.port import LoopRegistry
from relay.registry.sealing import Sealer
from relay.sockets.connections import DeviceConnections
from sigil.protocol.messages.relay import Ping
from sigil.serving import logs
from sigil.serving.background import BackgroundLoops, Job

RETRY_SECONDS = 1.0
SWEEP_SECONDS = 5.0
TRIM_SECONDS = 5.0
_BATCH = 200
_DAY = 86_400
BEAT_SECONDS = 20.0
_PING = msgspec.json.encode(Ping()).decode()


class Loops:
    """Every worker runs all loops; the registry gives each piece of work to one worker. `clock` gives Unix seconds.
    `on_evicted` gets the reason and the number of evicted registrations: SILENT or UNUSED."""

    def __init__(
        self,
        *,
        registry: LoopRegistry,
        database: DatabaseWatch,
        sealer: Sealer,
        dispatch: Dispatch,
        sockets: DeviceConnections,
        capacity: RegistrationCapacity,
        clock: Callable[[], float],
        on_evicted: Callable[[str, int], None] = lambda reason, count: None,
    ) -> None:
        self._registry = registry
        self._sealer = sealer
        self._dispatch = dispatch
        self._sockets = sockets
        self._clock = clock
        self._capacity = capacity
        self._on_evicted = on_evicted
        self._silence = Silence(registry, clock, lambda count: on_evicted(SILENT, count))
        jobs: dict[str, Job] = {
            "deliver": sockets.deliver,
            "heartbeat": self._heartbeat,
            "retry": self._retry,
            "sweep": self._sweep,
            "presence": self._presence,
            "trim": self._trim,
            "histories": self._forget_histories,
            "rotate": self._rotate,
            "database": database.run_once,
        }
        # DatabaseWatch logs outages.
        loops = BackgroundLoops(jobs, rest=RETRY_SECONDS, expected=(RegistryBusy,))
        self.start, self.stop = loops.start, loops.stop

    async def _heartbeat(self) -> None:
        began = time.monotonic()
        await self._sockets.heartbeat(_PING)
        self._dispatch.report_load()
        await asyncio.sleep(max(0.0, began + 1 - time.monotonic()))

    async def _retry(self) -> None:
        if not await self._dispatch.retry(_BATCH):
            await asyncio.sleep(RETRY_SECONDS)

    async def _sweep(self) -> None:
        if await self._registry.sweep(self._clock(), _BATCH) < _BATCH:
            await asyncio.sleep(SWEEP_SECONDS)

    async def _presence(self) -> None:
        await self._silence.beat()
        await self._silence.sweep()
        await asyncio.sleep(BEAT_SECONDS)

    async def _trim(self) -> None:
        trimmed = await self._registry.trim(self._capacity.max_devices, self._capacity.max_unused)
        self._capacity.counted(trimmed.total, replaceable=trimmed.replaceable)
        if trimmed.deleted:
            self._on_evicted(UNUSED, len(trimmed.deleted))
            logs.info("unused_registrations_deleted", count=len(trimmed.deleted), left=trimmed.total)
            await self._sockets.disconnect(trimmed.deleted)
        if len(trimmed.deleted) < PRUNE_BATCH:
            await asyncio.sleep(TRIM_SECONDS)

    async def _forget_histories(self) -> None:
        before = int(self._clock()) - HISTORY_SECONDS
        if await self._registry.forget_histories(self._capacity.max_histories, before) < PRUNE_BATCH:
            await asyncio.sleep(TRIM_SECONDS)

    async def _rotate(self) -> None:
        await reseal_tokens(self._registry, self._sealer)
        await asyncio.sleep(_DAY)
