"""What one connection of a device was sent, and how far the acknowledgement of each push has come."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum

from relay.registry.model import Push

_LONG_AGO = float("-inf")


class _Stand(Enum):
    LATE = "to be sent again, unless its acknowledgement still comes"
    WRITING = "acknowledged, and the registry is being told"
    WRITTEN = "acknowledged, and known as waiting to nobody but a look that began before"


class InFlight:
    """By push id: when it was sent (monotonic seconds), or how it stands since.

    No more than may wait for a device, and what it acknowledged since the last look, which each heartbeat is.
    """

    def __init__(self) -> None:
        self._pushes: dict[bytes, float | _Stand] = {}

    def __len__(self) -> int:
        return len(self._pushes)

    def look_begins(self) -> None:
        """Whatever is written by now is not found by a look that begins now."""
        written = [push_id for push_id, stand in self._pushes.items() if stand is _Stand.WRITTEN]
        for push_id in written:
            del self._pushes[push_id]

    def to_send(self, found: Sequence[Push]) -> list[Push]:
        """Of what the last look found to wait: what was not sent, and what is late."""
        names = {push.push.push_id for push in found}
        late = [push_id for push_id, stand in self._pushes.items() if stand is _Stand.LATE]
        for push_id in late:
            if push_id not in names:
                # Over in the meantime: expired, or let go for newer ones.
                del self._pushes[push_id]
        return [push for push in found if self._pushes.get(push.push.push_id, _Stand.LATE) is _Stand.LATE]

    def goes_out(self, push_id: bytes, now: float) -> bool:
        """False when its acknowledgement came, late, after it was found to be sent."""
        if self._pushes.get(push_id) in {_Stand.WRITING, _Stand.WRITTEN}:
            return False
        self._pushes[push_id] = now
        return True

    def acknowledged(self, push_id: bytes) -> bool:
        """False for what was not sent on this connection, or is acknowledged already: nobody need be told of it."""
        if self._pushes.get(push_id) in {None, _Stand.WRITING, _Stand.WRITTEN}:
            return False
        # Until that is written down, a look at what waits still finds it: it is known, and not to be sent again.
        self._pushes[push_id] = _Stand.WRITING
        return True

    def written(self, push_id: bytes) -> None:
        self._pushes[push_id] = _Stand.WRITTEN

    def not_written(self, push_id: bytes) -> None:
        """It comes again with the next heartbeat, and is acknowledged again."""
        self._pushes[push_id] = _LONG_AGO

    def late(self, since: float) -> None:
        """What was sent before `since` and not acknowledged is sent again by the next look."""
        for push_id, stand in self._pushes.items():
            if isinstance(stand, float) and stand < since:
                self._pushes[push_id] = _Stand.LATE
