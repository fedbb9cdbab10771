"""Every reason why the start of the relay would fail, all at once, without a change; a relay may run beside it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from relay.address import own_relay
from relay.config import Config, load
from relay.registry.inspection import Inspection, inspect_postgres
from relay.registry.model import RegistryUnusable
from relay.registry.sqlite.database import check_file
from relay.registry.sqlite.lock import LOCK_FILE, problem_of_another_relay
from sigil.serving.addresses.gateways import gateway_warnings
from sigil.serving.files.errors import reason_of
from sigil.serving.files.writable import creation_error
from sigil.serving.health_check import runs
from sigil.serving.process.listeners import PortInUse, check_listen
from sigil.serving.settings import ConfigError, Secret
from sigil.serving.startup_error import StartupError

_DATABASE_SECONDS = 3.0
_WORK_SECONDS = 10.0
T = TypeVar("T")


def check(environ: Mapping[str, str]) -> tuple[Config, list[str]]:
    """The settings and their warnings; ConfigError with every reason."""
    config = load(environ)
    faults: list[str] = []

    def attempt(step: Callable[[], object]) -> None:
        try:
            step()
        except StartupError as error:
            faults.append(str(error))

    warnings = [*config.warnings, *gateway_warnings(config.proxies)]
    if config.database_url is None:
        attempt(lambda: check_data_directory(config))
    else:
        try:
            asyncio.run(_connect(config.database_url))
        except RegistryUnusable as error:
            # A database that does not answer may be about to start, and the start waits for it.
            later = str(error).startswith("PostgreSQL did not answer")
            (warnings if later else faults).append(str(error))
    attempt(lambda: check_ports(config, environ))
    if faults:
        raise ConfigError(faults)
    return config, warnings


def check_ports(config: Config, environ: Mapping[str, str]) -> None:
    """StartupError unless the relay can listen, or runs already: on SQLite it then has its directory too."""
    on_sqlite = config.database_url is None
    held = problem_of_another_relay(config.data_dir) if on_sqlite else None
    try:
        check_listen(config.host, config.port, port_setting="RELAY_PORT")
        check_socket_port(config)
    except PortInUse:
        if not ((held or not on_sqlite) and runs(own_relay(environ))):
            raise
    else:
        if held:
            raise StartupError(held)


def check_socket_port(config: Config) -> None:
    """StartupError. Workers open this port, and share it: a program that listens there would share it silently."""
    if config.ws_port is not None:
        check_listen(config.host, config.ws_port, port_setting="RELAY_WS_PORT")


def check_data_directory(config: Config) -> None:
    """StartupError."""
    for path in (config.data_dir / LOCK_FILE, config.database_file):
        if error := _access_error(path):
            reason = reason_of("use", error.filename or path, error)
            raise StartupError(
                f"{path} cannot be opened: {reason}; set RELAY_DATA_DIR to a directory that the relay can write to"
            )
    try:
        check_file(config.database_file)
    except RegistryUnusable as error:
        raise StartupError(str(error)) from error


def _access_error(path: Path) -> OSError | None:
    if not os.path.lexists(path):
        return creation_error(path)
    try:
        os.close(os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK))
    except OSError as error:
        return error
    # SQLite makes further files there.
    return creation_error(path)


async def inspect_database(url: Secret) -> Inspection:
    """The state of PostgreSQL for a command; RegistryUnusable, also if its schema is not that of this version."""
    return await _with_database(url, "sigil-relay doctor", inspect_postgres)


async def _connect(url: Secret) -> None:
    """RegistryUnusable."""

    async def nothing(_connection: object) -> None:
        return

    await _with_database(url, "sigil-relay check-config", nothing)


async def _with_database(url: Secret, name: str, work: Callable[[Any], Awaitable[T]]) -> T:
    """The result of `work` with one connection, after a check of the pooler; RegistryUnusable."""
    # Not at the top: without PostgreSQL its driver is not needed.
    import asyncpg

    from relay.registry.postgres.pool import PostgresPool

    pool = PostgresPool(
        url.reveal(),
        pool_size=1,
        max_waiting=1,
        acquire_timeout=1.0,
        command_timeout=5.0,
        application_name=name,
        on_waiting=lambda _reason: None,
    )
    connection = await pool.wait_for_database(_DATABASE_SECONDS)
    try:
        async with asyncio.timeout(_WORK_SECONDS):
            await pool.require_sessions()
            return await work(connection)
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError) as error:
        raise RegistryUnusable(f"the database connection was lost: {type(error).__name__} {error}") from error
    finally:
        connection.terminate()
