"""The registry in one SQLite file: for development, and for one process."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from relay.registry.group_commit import GroupCommit
from relay.registry.port import (
    MAX_TOLD,
    PUSHES,
    Admitted,
    AttemptOutcome,
    Device,
    NewPush,
    NotificationHandler,
    Platform,
    Pruned,
    Push,
    Rate,
    RegistryBusy,
    Server,
    notification_batches,
)
from relay.registry.sqlite import devices, pushes
from relay.registry.sqlite.database import SqliteFile


class SqliteRegistry:
    """`Registry` in the file `path`, which is made when it is absent, and so is its directory.

    Registrations and trust survive a power failure (synchronous=FULL): a device that was told that it is registered
    does not ask again. Pushes and nonces survive the death of the process, and a power failure may take the last of
    them (NORMAL): they are gone within minutes anyway.
    """

    def __init__(self, path: Path, *, max_waiting: int = 1000, timeout: float = 5.0) -> None:
        self._file = SqliteFile(path, max_waiting=max_waiting, timeout=timeout)
        self._settling = GroupCommit(self._settle)
        self._news: NotificationHandler | None = None

    async def open(self, news: NotificationHandler) -> None:
        await self._file.open()
        self._news = news

    async def close(self) -> None:
        self._news = None
        await self._file.close()

    async def check(self) -> None:
        await self._file.transact(lambda db: db.execute("SELECT 1 FROM migration").fetchone())

    async def notify(self, channel: str, data: bytes) -> None:
        if len(data) > MAX_TOLD:
            raise ValueError(f"at most {MAX_TOLD} bytes are told at once")
        if self._news is None:
            raise RegistryBusy("the registry is not open")
        self._news(channel, data)

    async def register(self, device: Device) -> None:
        await self._file.transact(lambda db: devices.register(db, device), durable=True)

    async def unregister(self, fingerprint: bytes) -> bool:
        return await self._file.transact(lambda db: devices.unregister(db, fingerprint), durable=True)

    async def device(self, fingerprint: bytes) -> Device | None:
        return await self._file.transact(lambda db: devices.device(db, fingerprint))

    async def mark_seen(self, fingerprint: bytes, now: int) -> None:
        await self._file.transact(lambda db: devices.mark_seen(db, fingerprint, now))

    async def failed(self, fingerprint: bytes, token: bytes) -> int:
        return await self._file.transact(lambda db: devices.failed(db, fingerprint, token))

    async def evict(self, fingerprint: bytes, reason: str, token: bytes, now: int) -> bool:
        return await self._file.transact(lambda db: devices.evict(db, fingerprint, reason, token, now))

    async def count_devices(self) -> dict[str, int]:
        return await self._file.transact(devices.count)

    async def devices(self, after: bytes, limit: int) -> list[Device]:
        return await self._file.transact(lambda db: devices.page(db, after, limit))

    async def reseal(self, fingerprint: bytes, old: bytes, new: bytes) -> bool:
        return await self._file.transact(lambda db: devices.reseal(db, fingerprint, old, new), durable=True)

    async def prune(self, seen_before: int, evicted_before: int, now: int) -> Pruned:
        return await self._file.transact(lambda db: devices.prune(db, seen_before, evicted_before, now))

    async def server(self, server_id: bytes) -> Server | None:
        return await self._file.transact(lambda db: devices.server(db, server_id))

    async def servers(self) -> list[Server]:
        return await self._file.transact(devices.servers)

    async def trust(self, server: Server) -> None:
        await self._file.transact(lambda db: devices.trust(db, server), durable=True)

    async def trust_first(self, server: Server) -> bool:
        return await self._file.transact(lambda db: devices.trust_first(db, server), durable=True)

    async def distrust(self, server_id: bytes) -> bool:
        return await self._file.transact(lambda db: devices.distrust(db, server_id), durable=True)

    async def use_nonce(self, nonce: bytes, until: int) -> bool:
        return await self._file.transact(lambda db: pushes.use_nonce(db, nonce, until))

    async def admit(self, server_id: bytes, wanted: Sequence[NewPush], now: float, rate: Rate) -> list[Admitted]:
        answers = await self._file.transact(lambda db: pushes.admitted(db, server_id, wanted, now, rate))
        if self._news is not None:
            for data in notification_batches(answers):
                self._news(PUSHES, data)
        return answers

    async def settle(self, settled: Sequence[AttemptOutcome], now: float) -> None:
        if settled:
            await self._settling([one if one.due else one._replace(due=now) for one in settled])

    async def _settle(self, settled: Sequence[AttemptOutcome]) -> None:
        await self._file.transact(lambda db: pushes.settle(db, settled))

    async def outcomes(self, server_id: bytes, push_keys: Sequence[str]) -> list[Push | None]:
        return await self._file.transact(lambda db: pushes.outcomes(db, server_id, push_keys))

    async def pending_for(self, fingerprints: Sequence[bytes], now: float) -> list[Push]:
        return await self._file.transact(lambda db: pushes.pending_for(db, fingerprints, now))

    async def acknowledge(self, fingerprint: bytes, push_id: bytes, now: float) -> Push | None:
        return await self._file.transact(lambda db: pushes.acknowledge(db, fingerprint, push_id))

    async def claim(self, platform: Platform, now: float, limit: int) -> list[tuple[Push, Device]]:
        return await self._file.transact(lambda db: pushes.claim(db, platform, now, limit))

    async def sweep(self, now: float, limit: int) -> int:
        return await self._file.transact(lambda db: pushes.sweep(db, now, limit))

    async def backlog(self) -> int:
        return await self._file.transact(pushes.backlog)
