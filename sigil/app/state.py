"""The state directory of this version: the kinds of rows in the session store, and how to open it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from sigil.config.settings import Config
from sigil.core.approvals.approval import APPROVAL, REQUEST_ID, VOTE
from sigil.core.approvals.fan_out import FAN_OUT
from sigil.core.challenge import CHALLENGE, IDEMPOTENCY, LEDGER
from sigil.core.circuit_breaker import BREAKER
from sigil.core.enrolment.row import ENROLMENT, ENROLMENT_TOKEN
from sigil.core.nonce import USED_NONCE
from sigil.core.pushes.outbox import OUTBOX
from sigil.core.session_store import TALLY, SessionStore
from sigil.core.webhooks.delivery import FAILURE
from sigil.core.webhooks.event import EVENT
from sigil.serving import logs
from sigil.serving.startup_error import StartupError
from sigil.store.adoption import Stamp
from sigil.store.attach import open_running, problem_of_another_server
from sigil.store.lmdb import LmdbStore, WriteFlag
from sigil.store.memory_limits import MemoryLimits
from sigil.store.state_directory import StateDirectory, StateDirectoryError, problem_of_directory
from sigil.store.steady_clock import SharedOffset, SteadyClock

KINDS = (
    CHALLENGE,
    LEDGER,
    IDEMPOTENCY,
    USED_NONCE,
    OUTBOX,
    BREAKER,
    EVENT,
    FAILURE,
    APPROVAL,
    VOTE,
    REQUEST_ID,
    FAN_OUT,
    TALLY,
    ENROLMENT,
    ENROLMENT_TOKEN,
)
# A restart adopts a store only if it has the same schema.
STORE_SCHEMA = "10"


def enter_state(config: Config) -> StateDirectory:
    """Lock the state directory, in the master. StartupError names the setting to change."""
    with _as_startup_error():
        return StateDirectory.enter(config.state_dir, insecure=config.state_dir_insecure)


def prepare_store(state: StateDirectory, config: Config, server_id: str, *, adopt_unowned: bool = False) -> None:
    """Adopt the session store in it, or start an empty one, for the server with that identity."""
    with _as_startup_error():
        state.prepare_store(
            size=config.store_size,
            stamp=Stamp(STORE_SCHEMA, server_id),
            workers=config.workers,
            adopt_unowned=adopt_unowned,
        )


def store_problem(config: Config) -> str | None:
    """Why the session store of these settings could not be prepared, in one line; None if it can. Changes nothing."""
    return problem_of_directory(
        config.state_dir, size=config.store_size, workers=config.workers, insecure=config.state_dir_insecure
    )


def other_server_problem(config: Config) -> str | None:
    """The error of a start while a server holds the state directory, which may be the server of these settings."""
    return problem_of_another_server(config.state_dir)


def memory_limit() -> int | None:
    """The memory limit of this process's control groups, in bytes; None without one."""
    return MemoryLimits().memory_limit()


@contextmanager
def _as_startup_error() -> Iterator[None]:
    try:
        yield
    except StateDirectoryError as error:
        raise StartupError(str(error)) from error


def open_running_store(state_dir: Path) -> SessionStore:
    """The store of the server that runs on a state directory. StartupError: no such server, or no access."""
    with _as_startup_error():
        return open_running(state_dir, schema=STORE_SCHEMA, kinds=KINDS)


def pending_events(state_dir: Path) -> int:
    """Webhook events that the server on a state directory has not delivered yet. StartupError as above."""
    with closing(open_running_store(state_dir)) as store:
        return store.count(EVENT)


def open_store(config: Config, writing: WriteFlag) -> SessionStore:
    """The store that the master has prepared; once per worker. `writing` shows when it holds the write lock."""
    clock = SteadyClock(SharedOffset(config.state_dir), on_step=_log_step)
    return LmdbStore(config.state_dir, size=config.store_size, kinds=KINDS, clock=clock, create=False, writing=writing)


def _log_step(seconds: float) -> None:
    if seconds > 0:
        message = "the clock of this host was set forward: what has expired by it has ended"
    else:
        message = "the clock of this host was set back: what is pending ends as if it had not been"
    logs.warn("clock_stepped", seconds=round(seconds, 1), message=message)
