"""The registry in PostgreSQL: for any number of workers and replicas."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import asyncpg

from relay.registry.migrate import migrate_postgres, migrations, require_migrated_postgres
from relay.registry.model import RegistryBusy, RegistryUnusable
from relay.registry.port import NotificationHandler
from relay.registry.postgres.devices import PostgresDevices
from relay.registry.postgres.histories import PostgresHistories
from relay.registry.postgres.notifications import Listener, notify
from relay.registry.postgres.pool import PostgresPool, reason_of
from relay.registry.postgres.pooler import MESSAGE
from relay.registry.postgres.presence import PostgresPresence
from relay.registry.postgres.pushes import PostgresPushes
from relay.registry.postgres.servers import PostgresServers

_MIGRATING_SECONDS = 600.0
_BROKEN = (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError)


class PostgresRegistry(PostgresDevices, PostgresServers, PostgresPushes, PostgresHistories, PostgresPresence):
    """`Registry` over the database that `dsn` names. Times are seconds.

    Each worker has `pool_size` connections, and one more that listens. `open` waits up to `startup_timeout` for a
    database that does not answer yet. For the other arguments see `PostgresPool`.
    """

    def __init__(
        self,
        dsn: str,
        *,
        pool_size: int = 5,
        max_waiting: int = 1000,
        acquire_timeout: float = 1.0,
        command_timeout: float = 5.0,
        startup_timeout: float = 30.0,
        application_name: str = "sigil-relay",
        on_waiting: Callable[[str], None] = lambda line: None,
    ) -> None:
        self._startup_timeout = startup_timeout
        super().__init__(
            PostgresPool(
                dsn,
                pool_size=pool_size,
                max_waiting=max_waiting,
                acquire_timeout=acquire_timeout,
                command_timeout=command_timeout,
                application_name=application_name,
                on_waiting=on_waiting,
            )
        )
        self._listener: Listener | None = None

    async def migrate(self, *, apply: bool = True) -> list[str]:
        """Apply missing migrations and return their names; `open` does this, too. Raises RegistryUnusable, without
        `apply` also if one is missing."""
        connection = await self._pool.wait_for_database(self._startup_timeout)
        try:
            await self._pool.require_sessions()
            async with asyncio.timeout(_MIGRATING_SECONDS):
                if not apply:
                    await require_migrated_postgres(connection, migrations("postgres"))
                    return []
                return await migrate_postgres(connection, migrations("postgres"))
        except _BROKEN as error:
            raise RegistryUnusable(f"the database cannot be migrated: {reason_of(error)}") from error
        finally:
            connection.terminate()

    async def open(self, on_notification: NotificationHandler, *, migrate: bool = True) -> None:
        await self.migrate(apply=migrate)
        try:
            self._listener = Listener(self._pool.connect, on_notification)
            await self._listener.start(await self._pool.wait_for_database(self._startup_timeout))
            await self._pool.open()
        except _BROKEN as error:
            await self.close()
            raise RegistryUnusable(f"the database connection was lost: {reason_of(error)}") from error
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        if self._listener is not None:
            await self._listener.stop()
        await self._pool.close()

    async def check(self) -> None:
        # Only the writer of a cluster locks a row: a health check of a standby must not be good.
        await self._pool.transact(lambda con: con.fetchval("SELECT 1 FROM presence LIMIT 1 FOR UPDATE SKIP LOCKED"))
        if self._pool.lost_a_session:
            raise RegistryBusy(MESSAGE)

    async def notify(self, channel: str, data: bytes) -> None:
        await self._pool.use(lambda con: notify(con, channel, [data]))
