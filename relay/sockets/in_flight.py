"""The pushes in flight on one connection, and the state of each acknowledgement."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum

from relay.registry.model import Push

_LONG_AGO = float("-inf")


class _State(Enum):
    LATE = "to be sent again, unless its acknowledgement arrives first"
    STORING = "acknowledged, and the registry is being updated"
    STORED = "acknowledged and stored; only a query that started earlier may still return it"


class InFlightPushes:
    """By push id: when it was sent (monotonic seconds), or its state since then.

    It holds at most the pushes that may wait for a device, and those acknowledged since the last query. Each heartbeat
    is a query.
    """

    def __init__(self) -> None:
        self._pushes: dict[bytes, float | _State] = {}

    def __len__(self) -> int:
        return len(self._pushes)

    def __contains__(self, push_id: object) -> bool:
        return push_id in self._pushes

    def query_started(self) -> None:
        """A query that starts now does not return the acknowledgements that are stored by now."""
        stored = [push_id for push_id, state in self._pushes.items() if state is _State.STORED]
        for push_id in stored:
            del self._pushes[push_id]

    def to_send(self, found: Sequence[Push]) -> list[Push]:
        """Those of the pushes that the last query found which were not sent, or are late."""
        found_ids = {push.push.push_id for push in found}
        late = [push_id for push_id, state in self._pushes.items() if state is _State.LATE]
        for push_id in late:
            if push_id not in found_ids:
                # It no longer waits: it expired, or newer pushes replaced it.
                del self._pushes[push_id]
        return [push for push in found if self._pushes.get(push.push.push_id, _State.LATE) is _State.LATE]

    def mark_sent(self, push_id: bytes, now: float) -> bool:
        """False, and it must not be sent, if a late acknowledgement arrived after `to_send`."""
        if self._pushes.get(push_id) in {_State.STORING, _State.STORED}:
            return False
        self._pushes[push_id] = now
        return True

    def start_acknowledgement(self, push_id: bytes) -> bool:
        """False if the push was not sent on this connection, or is acknowledged already: there is nothing to store."""
        if self._pushes.get(push_id) in {None, _State.STORING, _State.STORED}:
            return False
        # A query still returns the push until the acknowledgement is stored: this state keeps it from being sent again.
        self._pushes[push_id] = _State.STORING
        return True

    def acknowledgement_stored(self, push_id: bytes) -> None:
        self._pushes[push_id] = _State.STORED

    def acknowledgement_failed(self, push_id: bytes) -> None:
        """The push is sent again at the next heartbeat, and acknowledged again."""
        self._pushes[push_id] = _LONG_AGO

    def mark_late(self, sent_before: float) -> None:
        """The next query sends the pushes again that were sent before this time and are not acknowledged."""
        for push_id, state in self._pushes.items():
            if isinstance(state, float) and state < sent_before:
                self._pushes[push_id] = _State.LATE
