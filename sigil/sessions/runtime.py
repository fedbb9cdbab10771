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
    """One per worker. `time_of_day` gives Unix seconds that may be set back, `randomness` that many random bytes.

    Every decision uses the store's clock. The time of day is for the wire, whose readers compare it with theirs.
    """

    store: SessionStore
    devices: DeviceResolver
    capacity: Capacity
    long_polls: LongPolls
    notifier: SessionNotifier
    time_of_day: Callable[[], float]
    randomness: Callable[[int], bytes]

    def time_of_creation(self) -> tuple[int, int]:
        """`created_ms` and `ahead` of a row that is created now."""
        now = self.store.now()
        ahead = max(0, int(now - self.time_of_day()))
        return int((now - ahead) * 1000), ahead
