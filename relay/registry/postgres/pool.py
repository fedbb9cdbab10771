"""The connection pool of PostgreSQL: bounded in connections, in waiting callers, and in time.

Failures are RegistryBusy.

    class PostgresServers(PoolUser):
        @autocommit
        async def servers(self, con: Connection) -> list[Server]: ...     # callers: await registry.servers()

`autocommit` and `transaction` turn a method that takes a connection into one that acquires it.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

import asyncpg

from relay.registry.model import RegistryBusy, RegistryUnusable
from relay.registry.postgres.pooler import LOST_STATEMENT, MESSAGE, require_sessions
from sigil.serving import logs

T = TypeVar("T")
P = ParamSpec("P")
U = TypeVar("U", bound="PoolUser")
Connection = Any
Work = Callable[[Connection], Awaitable[T]]

_UNAVAILABLE = (
    TimeoutError,
    OSError,
    asyncpg.PostgresConnectionError,
    asyncpg.InternalClientError,
    # Classes 28, 53, 57 and 58: authorization, insufficient resources, shutdown or startup, an error of its disk.
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InsufficientResourcesError,
    asyncpg.OperatorInterventionError,
    asyncpg.PostgresSystemError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    # The queue of NOTIFY is full: a listener does not read.
    asyncpg.ProgramLimitExceededError,
    # After a failover this may be a standby for a while. Another replica may just have migrated.
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.InvalidCachedStatementError,
    asyncpg.TransactionRollbackError,
)
_RETRIED = (asyncpg.DeadlockDetectedError, asyncpg.SerializationError)
_ATTEMPTS = 5
_LOST_SECONDS = 60.0
_MISCONFIGURED = (
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.InsufficientPrivilegeError,
)


class PostgresPool:
    """Runs each piece of work on a connection of its own. Times are seconds.

    `pool_size` connections, and at most `max_waiting` callers that wait up to `acquire_timeout` for one of them. Work
    that takes longer than `command_timeout` loses its connection. `on_waiting` gets a line when the database does not
    accept connections at the start.
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
        on_waiting: Callable[[str], None],
    ) -> None:
        self._dsn = dsn
        self._size = pool_size
        self._max_waiting = max_waiting
        self._acquire_timeout = acquire_timeout
        self._command_timeout = command_timeout
        self._options = {"server_settings": {"application_name": application_name}}
        self._on_waiting = on_waiting
        self._permits = asyncio.Semaphore(pool_size)
        self._waiting = 0
        self._pool: Any = None
        self._lost_session_at = float("-inf")

    async def connect(self, **options: Any) -> Connection:
        """A connection outside the pool, for its caller to close."""
        async with asyncio.timeout(self._acquire_timeout):
            return await asyncpg.connect(self._dsn, **self._options, **options)

    async def require_sessions(self) -> None:
        """RegistryUnusable when a pooler gives each transaction another session."""
        await require_sessions(lambda: self.connect(statement_cache_size=0))

    async def wait_for_database(self, max_seconds: float) -> Connection:
        """A connection outside the pool, as soon as the database accepts one. RegistryUnusable after
        `max_seconds`, and at once for an error that waiting does not resolve."""
        delay, loop = 0.05, asyncio.get_running_loop()
        deadline = loop.time() + max_seconds
        waiting = False
        while True:
            try:
                return await self.connect()
            except (*_MISCONFIGURED, ValueError, asyncpg.InterfaceError) as error:
                # A ValueError is about the text of the setting, and could repeat it.
                reason = str(error) if isinstance(error, asyncpg.PostgresError) else type(error).__name__
                raise RegistryUnusable(f"DATABASE_URL cannot be used: {reason}") from None
            except _UNAVAILABLE as error:
                reason = reason_of(error)
                if loop.time() + delay > deadline:
                    raise RegistryUnusable(f"PostgreSQL did not answer within {max_seconds:g} s: {reason}") from error
                if not waiting:
                    waiting = True
                    self._on_waiting(f"PostgreSQL does not answer yet, waiting up to {max_seconds:g} s: {reason}")
            await asyncio.sleep(delay * random.uniform(0.5, 1))  # noqa: S311
            delay = min(2 * delay, 2.0)

    async def open(self) -> None:
        """Create the pool. It connects on demand."""
        self._pool = await asyncpg.create_pool(
            self._dsn,
            min_size=0,
            max_size=self._size,
            # Nothing changes the state of a session after `_prepare`, and the default reset is a round trip.
            reset=_no_reset,
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
        return await self._run(work)

    async def transact(self, work: Work[T]) -> T:
        """Run work in a transaction, and repeat it after a deadlock."""

        async def begin_and_commit(connection: Connection) -> T:
            # The rules read after they waited for a lock: a stricter isolation would show them the state before it.
            await connection.execute("BEGIN ISOLATION LEVEL READ COMMITTED")
            result = await work(connection)
            await connection.execute("COMMIT")
            return result

        return await self._run(begin_and_commit)

    async def _run(self, work: Work[T]) -> T:
        try:
            async with self._acquired() as connection, asyncio.timeout(self._command_timeout):
                for attempt in range(_ATTEMPTS):
                    try:
                        return await work(connection)
                    except asyncpg.PostgresError as error:
                        if connection.is_in_transaction():
                            await connection.execute("ROLLBACK")
                        if not isinstance(error, _RETRIED) or attempt == _ATTEMPTS - 1:
                            raise
                    await asyncio.sleep(random.uniform(0, 0.01 * 2**attempt))  # noqa: S311
                raise AssertionError("unreachable")
        except _UNAVAILABLE as error:
            raise RegistryBusy(f"the database is not available: {type(error).__name__}") from error
        except LOST_STATEMENT as error:
            # The pooler was reconfigured since the start: `require_sessions` checked it then.
            self._session_lost()
            raise RegistryBusy(MESSAGE) from error
        except asyncpg.InterfaceError as error:
            if isinstance(error, ValueError):
                raise  # an argument that does not fit its column
            raise RegistryBusy("the connection to the database was closed") from error

    def _session_lost(self) -> None:
        if not self.lost_a_session:
            logs.error("database_pooler_shares_sessions", message=MESSAGE)
        self._lost_session_at = time.monotonic()

    @property
    def lost_a_session(self) -> bool:
        """Whether a prepared statement was lost within the last minute."""
        return time.monotonic() - self._lost_session_at < _LOST_SECONDS

    @asynccontextmanager
    async def _acquired(self) -> AsyncIterator[Connection]:
        pool = self._pool
        if pool is None:
            raise RegistryBusy("the registry is not open")
        if self._waiting >= self._max_waiting:
            raise RegistryBusy("too many callers wait for the database")
        # The pool's own queue has no limit and is not fair: this semaphore is first in, first out.
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
            # In the middle of a command: the database rolls back when it sees the closed connection.
            with suppress(asyncpg.InterfaceError):
                connection.terminate()
            raise
        finally:
            try:
                await pool.release(connection)
            finally:
                self._permits.release()

    async def _prepare(self, connection: Connection) -> None:
        """Once per connection. A plan is made while a table is empty and kept when it is full: it must read by index
        and in the order of the index. The database ends statements that take too long, and idle transactions of a
        stopped worker."""
        milliseconds = int(1000 * self._command_timeout) + 1
        await connection.execute(
            "SET enable_seqscan = off; SET enable_bitmapscan = off; SET jit = off;"
            f"SET statement_timeout = {milliseconds}; SET idle_in_transaction_session_timeout = {milliseconds}"
        )


def reason_of(error: BaseException) -> str:
    """One line: the text of asyncpg's errors may go on with hints."""
    return f"{type(error).__name__} {str(error).partition(chr(10))[0]}".strip()


async def _no_reset(_connection: Connection) -> None:
    pass


class PoolUser:
    """Base of the classes that implement a port over a pool."""

    def __init__(self, pool: PostgresPool) -> None:
        self._pool = pool


def autocommit(
    method: Callable[Concatenate[U, Connection, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[U, P], Coroutine[Any, Any, T]]:
    """A single statement, or several that need no transaction. They are repeated after a deadlock."""

    @wraps(method)
    def call(self: U, /, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, T]:
        return self._pool.use(lambda connection: method(self, connection, *args, **kwargs))

    return call


def transaction(
    method: Callable[Concatenate[U, Connection, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[U, P], Coroutine[Any, Any, T]]:
    """Several statements in one transaction, which is repeated after a deadlock."""

    @wraps(method)
    def call(self: U, /, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, T]:
        return self._pool.transact(lambda connection: method(self, connection, *args, **kwargs))

    return call
