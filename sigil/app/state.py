"""What this version keeps in its state directory: the rows of the session store, and who may open it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sigil.config.settings import Config
from sigil.core.approval import APPROVAL, REQUEST_ID, VOTE
from sigil.core.challenge import CHALLENGE, IDEMPOTENCY, LEDGER
from sigil.core.circuit_breaker import BREAKER
from sigil.core.fan_out import FAN_OUT
from sigil.core.nonce import USED_NONCE
from sigil.core.push_outbox import OUTBOX
from sigil.core.session_store import SessionStore
from sigil.core.webhook_delivery import FAILURE
from sigil.core.webhook_event import EVENT
from sigil.serving.startup_error import StartupError
from sigil.store.adoption import Stamp
from sigil.store.attach import open_running
from sigil.store.lmdb import LmdbStore
from sigil.store.state_directory import StateDirectory, StateDirectoryError

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
)
# Rows are read back after a restart only by a server that writes them the same way.
STORE_SCHEMA = "6"


def enter_state(config: Config) -> StateDirectory:
    """Take possession of the state directory, in the master; StartupError says what to mend."""
    with _refused():
        return StateDirectory.enter(config.state_dir, insecure=config.state_dir_insecure)


def settle_state(state: StateDirectory, config: Config, server_id: str, *, vouched: bool = False) -> None:
    """Adopt the session store in it or start an empty one, for a server of that identity."""
    with _refused():
        state.settle(size=config.store_size, stamp=Stamp(STORE_SCHEMA, server_id), vouched=vouched)


@contextmanager
def _refused() -> Iterator[None]:
    try:
        yield
    except StateDirectoryError as error:
        raise StartupError(str(error)) from error


def open_running_store(state_dir: Path) -> SessionStore:
    """The store of the server that runs on a state directory; StartupError says why there is none."""
    with _refused():
        return open_running(state_dir, schema=STORE_SCHEMA, kinds=KINDS, clock=time.time)


def open_store(config: Config) -> SessionStore:
    """In a worker, once: what the master has settled."""
    return LmdbStore(config.state_dir, size=config.store_size, kinds=KINDS, clock=time.time, create=False)
