"""What the host and the container give: memory for the session store, descriptors, swap, the clock."""

from __future__ import annotations

import datetime
import resource
from collections.abc import Iterator
from pathlib import Path

from sigil.app.state import memory_limit, store_problem
from sigil.config.settings import Config
from sigil.console.findings.result import Result, failed, ok, still_open
from sigil.serving.connections.limits import ConnectionLimits
from sigil.serving.probes.host import RELEASED, check_swap, clock_is_unsynchronised

_NO_LIMIT = 1 << 60
"""Version 1 of control groups reports a huge figure instead of no limit."""


def check_host(config: Config, now: datetime.datetime, swaps: Path = Path("/proc/swaps")) -> Iterator[Result]:
    yield _store(config)
    yield _memory()
    yield check_swap(swaps)
    yield _descriptors()
    yield _clock(now)


def _store(config: Config) -> Result:
    if problem := store_problem(config):
        return failed("session_store", problem, "docs/configuration.md, Sessions")
    if config.state_dir_insecure:
        return failed("session_store", "SIGIL_STATE_DIR_INSECURE is for development", "unset it, and use tmpfs")
    size = config.store_size >> 20
    return ok("session_store", f"{size} MiB fit into {config.state_dir} and into the memory limit")


def _memory() -> Result:
    limit = memory_limit()
    if limit is None or limit >= _NO_LIMIT:
        return failed(
            "memory_limit", "this container has no memory limit", "start it with docker-compose.prod.yml (mem_limit)"
        )
    return ok("memory_limit", f"{limit >> 20} MiB")


def _descriptors() -> Result:
    # The server raises the soft limit to the hard one at its start.
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    full = ConnectionLimits()
    total = full.total if hard == resource.RLIM_INFINITY else full.within(hard).total
    if total < full.total:
        return still_open(
            "descriptors", f"{hard}: a worker accepts {total} connections at once, of {full.total}",
            "raise LimitNOFILE of the Docker service",
        )  # fmt: skip
    return ok("descriptors", f"enough for {full.total} connections of a worker")


def _clock(now: datetime.datetime) -> Result:
    step = "synchronise the host's clock (chrony, systemd-timesyncd): signatures and challenges carry times"
    if now < RELEASED:
        return failed("clock", f"{now:%Y-%m-%d} is before this version was made", step)
    if clock_is_unsynchronised():
        return still_open("clock", "the kernel reports that the clock is not synchronised", step)
    return ok("clock", f"{now:%Y-%m-%d %H:%M} UTC")
