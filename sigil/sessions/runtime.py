"""What the services of challenges, approval requests and the inbox share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sigil.core.session_store import SessionStore
from sigil.sessions.capacity import Capacity
from sigil.sessions.device_refs import DeviceResolver
from sigil.sessions.long_polls import LongPolls
from sigil.sessions.notifier import SessionNotifier


@dataclass(frozen=True)
class SessionRuntime:
    """One per worker. `clock` gives Unix seconds, `randomness` that many random bytes."""

    store: SessionStore
    devices: DeviceResolver
    capacity: Capacity
    long_polls: LongPolls
    notifier: SessionNotifier
    clock: Callable[[], float]
    randomness: Callable[[int], bytes]
