"""The database of the relay, as this command sees it and as the running relay does."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Iterator
from pathlib import Path

from relay.app.checks import inspect_database
from relay.config import Config
from relay.registry.inspection import Inspection, inspect_sqlite
from relay.registry.model import RegistryUnusable
from relay.registry.sqlite.database import check_file
from sigil.console.findings.result import Result, failed, ok, still_open
from sigil.serving.files.errors import file_error
from sigil.serving.probes.figures import NoFigures
from sigil.serving.probes.host import clock_is_unsynchronised
from sigil.serving.probes.service import OwnProbe

_SILENT_SECONDS = 300
_AHEAD_SECONDS = 120
_CLOCK_SECONDS = 10
_CHECK = "check DATABASE_URL, and that PostgreSQL runs"
_CHECK_SQLITE = "check RELAY_DATA_DIR, its rights and its disk"
_SYNCHRONISE = "synchronise it (chrony, systemd-timesyncd)"


def check(config: Config, probe: OwnProbe) -> Iterator[Result]:
    """`registry`, `clock`."""
    try:
        found = _inspect(config)
    except RegistryUnusable as error:
        yield failed(
            "registry",
            str(error),
            _CHECK if config.database_url else "check RELAY_DATA_DIR, its rights and its disk; docs/relay.md, Run it",
        )
        yield _clock(None)
    else:
        yield from _of_inspection(config, found, probe)
        yield _clock(found.database_time)
    if probe.metric("database_up") == 0:
        yield failed(
            "registry", "the running relay does not reach its database", "its log has the cause (database_unreachable)"
        )


def _inspect(config: Config) -> Inspection:
    """RegistryUnusable."""
    if config.database_url is not None:
        return asyncio.run(inspect_database(config.database_url))
    try:
        if not config.database_file.exists():
            raise RegistryUnusable(f"{config.database_file} does not exist: the relay creates it at its first start")
        check_file(config.database_file)
    except OSError as error:
        path = Path(error.filename or config.database_file)
        raise RegistryUnusable(file_error("read", path, error)) from error
    return inspect_sqlite(config.database_file)


def _of_inspection(config: Config, found: Inspection, probe: OwnProbe) -> Iterator[Result]:
    kind = "PostgreSQL" if config.database_url else f"SQLite, {config.database_file}"
    if not found.writable:
        yield failed("registry", "PostgreSQL is a standby: it takes no writes", "set DATABASE_URL to the primary")
        return
    yield ok("registry", f"{kind}: reachable, at the schema of this version")
    now = time.time()
    if found.last_beat is not None and found.last_beat > now + _AHEAD_SECONDS:
        yield still_open(
            "registry", "a relay on this database has reported a time in the future: its clock was ahead",
            f"compare the clocks of all relays on it; {_SYNCHRONISE} where it is wrong",
        )  # fmt: skip
    elif max(found.last_beat or 0, _started(probe)) < now - _SILENT_SECONDS:
        yield failed(
            "registry", "the running relay has not written to this database for five minutes",
            "compare DATABASE_URL and RELAY_DATA_DIR of this command with those of the relay",
        )  # fmt: skip


def _started(probe: OwnProbe) -> float:
    """When the running relay started, Unix seconds; infinite if it does not run, or shows no metrics."""
    try:
        return probe.figures().value("process_start_time_seconds") or math.inf
    except NoFigures:
        return math.inf


def _clock(database_time: float | None) -> Result:
    offset = None if database_time is None else database_time - time.time()
    if offset is not None and abs(offset) > _CLOCK_SECONDS:
        text = f"this host is {abs(offset):.0f} s {'behind' if offset > 0 else 'ahead of'} the database"
        return still_open("clock", text, f"run `date -u` on both hosts; where it is wrong, {_SYNCHRONISE}")
    if clock_is_unsynchronised():
        return still_open("clock", "the kernel reports that this host's clock is not synchronised", _SYNCHRONISE)
    return ok("clock", "agrees with the database's" if offset is not None else "the kernel reports no fault")
