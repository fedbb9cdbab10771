"""Poolers between the relay and PostgreSQL, such as PgBouncer.

The relay needs sessions: it listens for notifications on one connection and prepares statements on the others. A pooler
that gives the server connection to another client after each transaction breaks both, and often only under load.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg

from relay.registry.model import RegistryUnusable

LOST_STATEMENT = (asyncpg.InvalidSQLStatementNameError, asyncpg.DuplicatePreparedStatementError)
"""Errors of prepared statements that only a session which is not the client's own causes."""
MESSAGE = (
    "DATABASE_URL leads through a pooler that gives each transaction another session (PgBouncer: pool_mode = "
    "transaction); the relay needs sessions of its own: set pool_mode = session for its database, or use the address "
    "of PostgreSQL itself"
)


async def require_sessions(connect: Callable[[], Awaitable[Any]]) -> None:
    """RegistryUnusable when two clients share a session, or one changes it. `connect` gives connections that prepare no
    statements by name.
    """
    first = await connect()
    try:
        pid = await _session(first)
        # PostgreSQL tells a client the process id of its session; a pooler invents one.
        if pid == first.get_server_pid():
            return
        second = await _second(connect)
        try:
            async with second.transaction():
                # While this transaction holds its session, `first` gets another one if it has none of its own.
                kept = await second.fetchval(_PID) != pid and await _session(first) == pid
        finally:
            second.terminate()
    except asyncpg.ProtocolViolationError as error:
        # PgBouncer in statement mode rejects transactions.
        raise RegistryUnusable(MESSAGE) from error
    finally:
        first.terminate()
    if not kept:
        raise RegistryUnusable(MESSAGE)


_PID = "SELECT pg_backend_pid()"


async def _session(connection: Any) -> int:
    async with connection.transaction():
        return int(await connection.fetchval(_PID))


async def _second(connect: Callable[[], Awaitable[Any]]) -> Any:
    try:
        return await connect()
    except (TimeoutError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise RegistryUnusable(
            "the pooler of DATABASE_URL gives the relay a single connection: it needs 14 for each worker (PgBouncer: "
            "default_pool_size)"
        ) from error
