"""Rates per client address, in the memory of one worker: a stranger never causes a write."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

from sigil.protocol.errors import RateLimited

# What a failed API key or answer costs in ordinary requests.
FAILURE_COST = 10
_MAX_ADDRESSES = 65_536
# What one person needs at once: a first boot, or ten mistakes. Connections fall on workers by chance, and one of HTTP/2
# brings all that its client asks to a single worker, where a bare share of the rate may be less than one mistake costs.
_LEAST_AT_ONCE = 10 * FAILURE_COST
_Clock = Callable[[], float]


class AddressLimiter:
    """`per_minute` requests an address (0: no limit), a minute's worth or `at_once` of them together, or evenly: the
    generic cell rate algorithm.

    At most 65 536 addresses are remembered; over that the one not seen for longest is forgotten.
    """

    def __init__(self, per_minute: float, *, at_once: int = 0, clock: _Clock = time.monotonic) -> None:
        self._interval = 60 / per_minute if per_minute else 0.0
        self._ahead = max(60.0, at_once * self._interval)
        self._clock = clock
        self._paid_until: OrderedDict[str, float] = OrderedDict()

    @classmethod
    def of_worker(cls, per_minute: int, workers: int, clock: _Clock = time.monotonic) -> AddressLimiter:
        """The share of one of `workers`, each of which counts for itself. In the long run all of them together let
        through about `per_minute`; at once, each what one person needs.
        """
        return cls(per_minute / workers, at_once=min(per_minute, _LEAST_AT_ONCE), clock=clock)

    def check(self, address: str) -> None:
        """RateLimited while the address has used up what it may; charges nothing."""
        if not self._interval:
            return
        over = self._paid_until.get(address, 0.0) + self._interval - self._clock() - self._ahead
        if over > 0:
            raise RateLimited(retry_after=int(over) + 1, limit="address")

    def charge(self, address: str, cost: int = 1) -> None:
        if not self._interval:
            return
        now = self._clock()
        paid_until = max(self._paid_until.pop(address, 0.0), now) + cost * self._interval
        # A minute over the limit and no more: a burst of failures is not a life sentence.
        self._paid_until[address] = min(paid_until, now + self._ahead + 60)
        if len(self._paid_until) > _MAX_ADDRESSES:
            self._paid_until.popitem(last=False)
