"""Connections to PostgreSQL: bounded in number, in who waits for them, and in time. What fails is RegistryBusy."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeVar

import asyncpg

from relay.registry.port import RegistryBusy, RegistryUnusable

T = TypeVar("T")
Connection = Any
Work = Callable[[Connection], Awaitable[T]]

_AWAY = (
    TimeoutError,
    OSError,
    asyncpg.PostgresConnectionError,
    asyncpg.InternalClientError,
    # Classes 28, 53, 57 and 58: refused, out of something, shutting down or starting, an error of its disk.
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InsufficientResourcesError,
    asyncpg.OperatorInterventionError,
    asyncpg.PostgresSystemError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    # Nobody reads the news, and what is told piles up.
    asyncpg.ProgramLimitExceededError,
    # After a failover this may be a standby for a while; and another replica may just have migrated.
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.InvalidCachedStatementError,
    asyncpg.TransactionRollbackError,
)
_AGAIN = (asyncpg.DeadlockDetectedError, asyncpg.SerializationError)
_TRIES = 5
_MISTAKEN = (
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.InsufficientPrivilegeError,
)


class Connections:
    """Runs work on a connection of its own. Times are seconds.

    `pool_size` connections, and at most `max_waiting` callers that wait for one of them for `acquire_timeout`;
    work that takes longer than `command_timeout` loses its connection. A `statement_cache_size` of 0 is for a PgBouncer
    before 1.21 in transaction mode.
    """

    def __init__(
        self,
        dsn: str,
        *,
        pool_size: int,
        max_waiting: int,
        acquire_timeout: float,
        command_timeout: float,
        application_name: str,
        statement_cache_size: int,
    ) -> None:
        self._dsn = dsn
        self._size = pool_size
        self._max_waiting = max_waiting
        self._acquire_timeout = acquire_timeout
        self._command_timeout = command_timeout
        self._options = {
            "server_settings": {"application_name": application_name},
            "statement_cache_size": statement_cache_size,
        }
        self._permits = asyncio.Semaphore(pool_size)
        self._waiting = 0
        self._pool: Any = None

    async def connect(self) -> Connection:
        """A connection outside the pool, for its caller to close."""
        async with asyncio.timeout(self._acquire_timeout):
            return await asyncpg.connect(self._dsn, **self._options)

    async def first(self, patience: float) -> Connection:
        """A connection once there is one, waited for up to `patience` seconds; RegistryUnusable after that, and at
        once when waiting would not help."""
        delay, loop = 0.05, asyncio.get_running_loop()
        deadline = loop.time() + patience
        while True:
            try:
                return await self.connect()
            except (*_MISTAKEN, ValueError, asyncpg.InterfaceError) as error:
                # A ValueError is about the text of the setting, and could repeat it.
                told = str(error) if isinstance(error, asyncpg.PostgresError) else type(error).__name__
                raise RegistryUnusable(f"DATABASE_URL cannot be used: {told}") from None
            except _AWAY as error:
                if loop.time() + delay > deadline:
                    told = f"{type(error).__name__} {error}".strip()
                    raise RegistryUnusable(f"PostgreSQL did not answer within {patience:g} s: {told}") from error
            await asyncio.sleep(delay * random.uniform(0.5, 1))  # noqa: S311
            delay = min(2 * delay, 2.0)

    async def open(self) -> None:
        """Make the pool, which connects when it has to."""
        self._pool = await asyncpg.create_pool(
            self._dsn,
            min_size=0,
            max_size=self._size,
            # Nothing changes the state of a session after `_prepare`, and the usual reset is a round trip.
            reset=_leave_as_it_is,
            init=self._prepare,
            **self._options,
        )

    async def close(self) -> None:
        pool, self._pool = self._pool, None
        if pool is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._command_timeout):
                    await pool.close()

    async def use(self, work: Work[T]) -> T:
        """Run work that is a single statement, or several that need no transaction."""
        return await self._guarded(work)

    async def transact(self, work: Work[T]) -> T:
        """Run work in a transaction, from the beginning again when it met another one's locks in a circle."""

        async def transaction(connection: Connection) -> T:
            # The rules read again after they waited for a lock: another isolation would show them what was before.
            await connection.execute("BEGIN ISOLATION LEVEL READ COMMITTED")
            result = await work(connection)
            await connection.execute("COMMIT")
            return result

        return await self._guarded(transaction)

    async def _guarded(self, work: Work[T]) -> T:
        try:
            async with self._leased() as connection, asyncio.timeout(self._command_timeout):
                for wait in range(_TRIES):
                    try:
                        return await work(connection)
                    except asyncpg.PostgresError as error:
                        if connection.is_in_transaction():
                            await connection.execute("ROLLBACK")
                        if not isinstance(error, _AGAIN) or wait == _TRIES - 1:
                            raise
                    await asyncio.sleep(random.uniform(0, 0.01 * 2**wait))  # noqa: S311
                raise AssertionError("unreachable")
        except _AWAY as error:
            raise RegistryBusy(f"the database cannot be had: {type(error).__name__}") from error
        except asyncpg.InterfaceError as error:
            if isinstance(error, ValueError):
                raise  # an argument that does not fit its column
            raise RegistryBusy("the connection to the database was closed") from error

    @asynccontextmanager
    async def _leased(self) -> AsyncIterator[Connection]:
        pool = self._pool
        if pool is None:
            raise RegistryBusy("the registry is not open")
        if self._waiting >= self._max_waiting:
            raise RegistryBusy("too many wait for the database")
        # The pool's own queue has no end and is not fair: who comes next is decided here, in order.
        self._waiting += 1
        try:
            async with asyncio.timeout(self._acquire_timeout):
                await self._permits.acquire()
                try:
                    connection = await pool.acquire()
                except BaseException:
                    self._permits.release()
                    raise
        finally:
            self._waiting -= 1
        try:
            yield connection
        except asyncpg.PostgresError:
            raise
        except BaseException:
            # In the middle of something: the server takes it back when it sees that nobody is there.
            with suppress(asyncpg.InterfaceError):
                connection.terminate()
            raise
        finally:
            try:
                await pool.release(connection)
            finally:
                self._permits.release()

    async def _prepare(self, connection: Connection) -> None:
        """Once for each connection. A plan is made while a table is empty and kept when it is full: it reads by index,
        and in its order. The server ends what takes too long, and a transaction whose worker has stopped."""
        milliseconds = int(1000 * self._command_timeout) + 1
        await connection.execute(
            "SET enable_seqscan = off; SET enable_bitmapscan = off; SET jit = off;"
            f"SET statement_timeout = {milliseconds}; SET idle_in_transaction_session_timeout = {milliseconds}"
        )


async def _leave_as_it_is(_connection: Connection) -> None:
    pass
