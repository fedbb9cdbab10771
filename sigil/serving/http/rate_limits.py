"""Rate limits per client address: they bound unauthenticated clients, whose only name is an address.

`AddressBuckets` is the counter: addresses and costs, without HTTP. The code that wires a service constructs it, and
`AddressRateLimit` alone calls it. `AddressRateLimit` charges Falcon requests to a counter: resources and guards use it.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

from falcon.asgi import Request

from sigil.protocol.errors import (
    AlreadyAnswered,
    ChallengeAlreadyUsed,
    ChallengeExpired,
    MpaClosed,
    MpaExpired,
    NotEligible,
    Problem,
    RateLimited,
    Retryable,
)
from sigil.serving.http.client_address import ClientAddresses

# The cost of a failed API key or answer, in ordinary requests.
FAILURE_COST = 10
_MAX_ADDRESSES = 65_536
# The burst that one person needs: a first boot, or ten mistakes. The kernel assigns connections to workers by chance,
# and one HTTP/2 connection brings all requests of its client to a single worker, where a plain share of the rate may be
# less than the cost of one mistake.
_MIN_BURST = 10 * FAILURE_COST
_Clock = Callable[[], float]

# Errors that cost nothing: a signed answer that came too late or does not count, or a busy server.
_FREE_ERRORS = (
    ChallengeAlreadyUsed,
    ChallengeExpired,
    AlreadyAnswered,
    MpaClosed,
    MpaExpired,
    NotEligible,
    Retryable,
)


class AddressBuckets:
    """`per_minute` requests per address (0: no limit), by the generic cell rate algorithm: evenly spread, or as a burst
    of one minute's requests or of `burst`, the larger of the two.

    The state is in the memory of one worker: an unauthenticated client never causes a write. At most 65 536 addresses
    are remembered; above that the limiter forgets the address that was charged least recently.
    """

    def __init__(self, per_minute: float, *, burst: int = 0, clock: _Clock = time.monotonic) -> None:
        self._interval = 60 / per_minute if per_minute else 0.0
        self._ahead = max(60.0, burst * self._interval)
        self._clock = clock
        self._paid_until: OrderedDict[str, float] = OrderedDict()

    @classmethod
    def of_worker(cls, per_minute: int, workers: int, clock: _Clock = time.monotonic) -> AddressBuckets:
        """The share of one of `workers`, each of which counts for itself. In the long run all workers together let
        through about `per_minute`; each of them allows the burst that one person needs.
        """
        return cls(per_minute / workers, burst=min(per_minute, _MIN_BURST), clock=clock)

    def check(self, address: str) -> None:
        """RateLimited while the address is over its limit; charges nothing."""
        if not self._interval:
            return
        excess = self._paid_until.get(address, 0.0) + self._interval - self._clock() - self._ahead
        if excess > 0:
            raise RateLimited(retry_after=int(excess) + 1, limit="address")

    def charge(self, address: str, cost: int = 1) -> None:
        if not self._interval:
            return
        now = self._clock()
        paid_until = max(self._paid_until.pop(address, 0.0), now) + cost * self._interval
        # At most one minute over the limit, so that a burst of failures does not lock an address out for longer.
        self._paid_until[address] = min(paid_until, now + self._ahead + 60)
        if len(self._paid_until) > _MAX_ADDRESSES:
            self._paid_until.popitem(last=False)


class AddressRateLimit:
    """Charges the address of a request that carries no API key: for every request, or only for failures."""

    def __init__(self, addresses: ClientAddresses, limiter: AddressBuckets) -> None:
        self._addresses = addresses
        self._limiter = limiter

    def charge(self, req: Request) -> None:
        """One ordinary request; RateLimited when the address is over its limit."""
        address = self._addresses.of(req)
        self._limiter.check(address)
        self._limiter.charge(address)

    def charge_failure(self, req: Request) -> None:
        self._limiter.charge(self._addresses.of(req), FAILURE_COST)

    def charging_failures(self, req: Request) -> FailuresCharged:
        return FailuresCharged(self._limiter, self._addresses.of(req))


class FailuresCharged:
    """Context manager around the handling of one request: it charges a failure. A success costs nothing, so that many
    devices may share an address.
    """

    def __init__(self, limiter: AddressBuckets, address: str) -> None:
        self._limiter = limiter
        self._address = address

    def __enter__(self) -> FailuresCharged:
        return self

    def check(self) -> None:
        """RateLimited; call it after the checks of the body, whose errors come first."""
        self._limiter.check(self._address)

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, Problem) and not isinstance(error, _FREE_ERRORS):
            self._limiter.charge(self._address, FAILURE_COST)
