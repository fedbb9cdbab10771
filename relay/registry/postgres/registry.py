"""The registry in PostgreSQL: for any number of workers and replicas."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import asyncpg

from relay.registry.group_commit import GroupCommit
from relay.registry.migrate import migrate_postgres, migrations
from relay.registry.port import (
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
    RegistryUnusable,
    Server,
    notification_batches,
)
from relay.registry.postgres import devices, pushes
from relay.registry.postgres.notifications import Listener, notify
from relay.registry.postgres.pool import Connections

_MIGRATING_SECONDS = 600.0
_BROKEN = (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError)


class PostgresRegistry:
    """`Registry` over the database that `dsn` names. Times are seconds.

    `pool_size` connections, and one more that listens: for each worker. `open` waits `patience` for a database that is
    not there yet. For the other arguments see `Connections`.
    """

    def __init__(
        self,
        dsn: str,
        *,
        pool_size: int = 5,
        max_waiting: int = 1000,
        acquire_timeout: float = 1.0,
        command_timeout: float = 5.0,
        patience: float = 30.0,
        application_name: str = "sigil-relay",
        statement_cache_size: int = 100,
    ) -> None:
        self._patience = patience
        self._connections = Connections(
            dsn,
            pool_size=pool_size,
            max_waiting=max_waiting,
            acquire_timeout=acquire_timeout,
            command_timeout=command_timeout,
            application_name=application_name,
            statement_cache_size=statement_cache_size,
        )
        self._settling = GroupCommit(self._settle)
        self._listener: Listener | None = None

    async def migrate(self) -> list[str]:
        """Apply what is missing and say what it was; `open` does it, too. Raises RegistryUnusable."""
        connection = await self._connections.first(self._patience)
        try:
            async with asyncio.timeout(_MIGRATING_SECONDS):
                return await migrate_postgres(connection, migrations("postgres"))
        except _BROKEN as error:
            raise RegistryUnusable(f"the database cannot be migrated: {type(error).__name__} {error}") from error
        finally:
            connection.terminate()

    async def open(self, news: NotificationHandler) -> None:
        await self.migrate()
        try:
            self._listener = Listener(self._connections.connect, news)
            await self._listener.start(await self._connections.first(self._patience))
            await self._connections.open()
        except _BROKEN as error:
            await self.close()
            raise RegistryUnusable(f"the database went away: {type(error).__name__} {error}") from error
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        if self._listener is not None:
            await self._listener.stop()
        await self._connections.close()

    async def check(self) -> None:
        await self._connections.use(lambda con: con.fetchval("SELECT 1"))

    async def notify(self, channel: str, data: bytes) -> None:
        await self._connections.use(lambda con: notify(con, channel, [data]))

    async def register(self, device: Device) -> None:
        await self._connections.transact(lambda con: devices.register(con, device))

    async def unregister(self, fingerprint: bytes) -> bool:
        return await self._connections.transact(lambda con: devices.unregister(con, fingerprint))

    async def device(self, fingerprint: bytes) -> Device | None:
        return await self._connections.use(lambda con: devices.device(con, fingerprint))

    async def mark_seen(self, fingerprint: bytes, now: int) -> None:
        await self._connections.use(lambda con: devices.mark_seen(con, fingerprint, now))

    async def failed(self, fingerprint: bytes, token: bytes) -> int:
        return await self._connections.use(lambda con: devices.failed(con, fingerprint, token))

    async def evict(self, fingerprint: bytes, reason: str, token: bytes, now: int) -> bool:
        return await self._connections.transact(lambda con: devices.evict(con, fingerprint, reason, token, now))

    async def count_devices(self) -> dict[str, int]:
        return await self._connections.use(devices.count)

    async def devices(self, after: bytes, limit: int) -> list[Device]:
        return await self._connections.use(lambda con: devices.page(con, after, limit))

    async def reseal(self, fingerprint: bytes, old: bytes, new: bytes) -> bool:
        return await self._connections.use(lambda con: devices.reseal(con, fingerprint, old, new))

    async def prune(self, seen_before: int, evicted_before: int, now: int) -> Pruned:
        return await self._connections.use(lambda con: devices.prune(con, seen_before, evicted_before, now))

    async def server(self, server_id: bytes) -> Server | None:
        return await self._connections.use(lambda con: devices.server(con, server_id))

    async def servers(self) -> list[Server]:
        return await self._connections.use(devices.servers)

    async def trust(self, server: Server) -> None:
        await self._connections.use(lambda con: devices.trust(con, server))

    async def trust_first(self, server: Server) -> bool:
        return await self._connections.transact(lambda con: devices.trust_first(con, server))

    async def distrust(self, server_id: bytes) -> bool:
        return await self._connections.use(lambda con: devices.distrust(con, server_id))

    async def use_nonce(self, nonce: bytes, until: int) -> bool:
        return await self._connections.use(lambda con: pushes.use_nonce(con, nonce, until))

    async def admit(self, server_id: bytes, wanted: Sequence[NewPush], now: float, rate: Rate) -> list[Admitted]:
        answers = await self._connections.transact(lambda con: pushes.admitted(con, server_id, wanted, now, rate))
        if told := notification_batches(answers):
            await self._tell_admitted(told)
        return answers

    async def _tell_admitted(self, told: Sequence[bytes]) -> None:
        # After the commit, as NOTIFY holds a lock of the whole database until the end of its transaction, and a commit
        # waits for the disk. When it fails the pushes are held all the same, and told to a device that connects.
        try:
            await self._connections.use(lambda con: notify(con, PUSHES, told))
        except RegistryBusy:
            return

    async def settle(self, settled: Sequence[AttemptOutcome], now: float) -> None:
        if settled:
            await self._settling([one if one.due else one._replace(due=now) for one in settled])

    async def _settle(self, settled: Sequence[AttemptOutcome]) -> None:
        await self._connections.use(lambda con: pushes.settle(con, settled))

    async def outcomes(self, server_id: bytes, push_keys: Sequence[str]) -> list[Push | None]:
        return await self._connections.use(lambda con: pushes.outcomes(con, server_id, push_keys))

    async def pending_for(self, fingerprints: Sequence[bytes], now: float) -> list[Push]:
        return await self._connections.use(lambda con: pushes.pending_for(con, fingerprints, now))

    async def acknowledge(self, fingerprint: bytes, push_id: bytes, now: float) -> Push | None:
        return await self._connections.use(lambda con: pushes.acknowledge(con, fingerprint, push_id))

    async def claim(self, platform: Platform, now: float, limit: int) -> list[tuple[Push, Device]]:
        return await self._connections.use(lambda con: pushes.claim(con, platform, now, limit))

    async def sweep(self, now: float, limit: int) -> int:
        return await self._connections.use(lambda con: pushes.sweep(con, now, limit))

    async def backlog(self) -> int:
        return await self._connections.use(pushes.backlog)
