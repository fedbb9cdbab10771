"""The registry in one SQLite file: for development, and for one process."""

from __future__ import annotations

from pathlib import Path

from relay.registry.model import MAX_NOTIFICATION_BYTES, RegistryBusy
from relay.registry.port import NotificationHandler
from relay.registry.sqlite.database import SqliteFile
from relay.registry.sqlite.devices import SqliteDevices
from relay.registry.sqlite.histories import SqliteHistories
from relay.registry.sqlite.presence import SqlitePresence
from relay.registry.sqlite.pushes import SqlitePushes
from relay.registry.sqlite.servers import SqliteServers


class SqliteRegistry(SqliteDevices, SqliteServers, SqlitePushes, SqliteHistories, SqlitePresence):
    """`Registry` in the file `path`. A missing file is created, and so is its directory.

    Registrations and trust survive a power failure (synchronous=FULL): a device that got a confirmation does not
    register again. Pushes and nonces survive the death of the process; a power failure may lose the last of them
    (NORMAL), as they expire within minutes anyway. For the other arguments see `SqliteFile`.
    """

    def __init__(self, path: Path, *, max_waiting: int = 1000, timeout: float = 5.0, lock_timeout: float = 2.0) -> None:
        super().__init__(SqliteFile(path, max_waiting=max_waiting, timeout=timeout, lock_timeout=lock_timeout))

    async def open(self, on_notification: NotificationHandler, *, migrate: bool = True) -> None:
        await self._file.open(migrate=migrate)
        self._on_notification = on_notification

    async def close(self) -> None:
        self._on_notification = None
        await self._file.close()

    async def check(self) -> None:
        await self._file.transact(lambda db: db.execute("SELECT 1 FROM migration").fetchone())

    async def notify(self, channel: str, data: bytes) -> None:
        if len(data) > MAX_NOTIFICATION_BYTES:
            raise ValueError(f"a notification has at most {MAX_NOTIFICATION_BYTES} bytes")
        if self._on_notification is None:
            raise RegistryBusy("the registry is not open")
        self._on_notification(channel, data)
