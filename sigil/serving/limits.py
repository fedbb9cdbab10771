"""Rates per client address, in the memory of one worker: a stranger never causes a write."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

from sigil.protocol.errors import RateLimited

# What a failed API key or answer costs in ordinary requests.
FAILURE_COST = 10
_MAX_ADDRESSES = 65_536


class AddressLimiter:
    """`per_minute` requests an address (0: no limit), all at once or evenly: the generic cell rate algorithm.

    At most 65 536 addresses are remembered; over that the one not seen for longest is forgotten.
    """

    def __init__(self, per_minute: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._interval = 60 / per_minute if per_minute else 0.0
        self._clock = clock
        self._paid_until: OrderedDict[str, float] = OrderedDict()

    def check(self, address: str) -> None:
        """RateLimited while the address has used up its minute; charges nothing."""
        if not self._interval:
            return
        over = self._paid_until.get(address, 0.0) + self._interval - self._clock() - 60
        if over > 0:
            raise RateLimited(retry_after=int(over) + 1, limit="address")

    def charge(self, address: str, cost: int = 1) -> None:
        if not self._interval:
            return
        now = self._clock()
        paid_until = max(self._paid_until.pop(address, 0.0), now) + cost * self._interval
        # Never more than two minutes ahead: a burst of failures is not a life sentence.
        self._paid_until[address] = min(paid_until, now + 120)
        if len(self._paid_until) > _MAX_ADDRESSES:
            self._paid_until.popitem(last=False)
