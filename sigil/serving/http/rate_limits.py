"""Rate limits per client address: they bound unauthenticated clients, whose only name is an address.

`AddressBuckets` is the counter: addresses and costs, without HTTP. The code that wires a service constructs it, and
`AddressRateLimit` alone calls it. `AddressRateLimit` charges Falcon requests to a counter: resources and guards use it.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable

from falcon.asgi import Request

from sigil.protocol.errors import (
    AlreadyAnswered,
    AttestationInvalid,
    AttestationRequired,
    ChallengeAlreadyUsed,
    ChallengeExpired,
    MpaClosed,
    MpaExpired,
    NotEligible,
    Problem,
    RateLimited,
    Retryable,
)
from sigil.serving.bounded_counts import BoundedCounts
from sigil.serving.http.client_address import ClientAddresses, site_of

# The cost of a failed API key or answer, in ordinary requests.
FAILURE_COST = 10
# The cost of a query that found nothing, or of a request that may be repeated: 3000 a minute, since many devices may
# share the address of a network.
IDLE_COST = 0.2
_MAX_ADDRESSES = 65_536
# A site (an IPv6 /48) has 65 536 networks of one client each, which a client that owns the site uses in turn. Some
# providers put many customers into one /48, so the site gets the limit of this many clients.
_CLIENTS_PER_SITE = 16
# Per worker, about 5 MB: rejections and empty answers whose repetition is recognised.
_MAX_REPEATS = 16_384
# The burst that one person needs: a first boot, or ten mistakes. The kernel assigns connections to workers by chance,
# and one HTTP/2 connection brings all requests of its client to a single worker, where a plain share of the rate may be
# less than the cost of one mistake.
_MIN_BURST = 10 * FAILURE_COST
_Clock = Callable[[], float]

# A signed answer that came too late or does not count: the first is free, since all members of a large approval request
# may share an address, and their credentials expire on one day. A device does not send it again before it has renewed
# its credential, so a repetition is a failure.
_LATE = (
    ChallengeAlreadyUsed, ChallengeExpired, AlreadyAnswered, MpaClosed, MpaExpired, NotEligible, AttestationRequired,
    AttestationInvalid,
)  # fmt: skip


class _Rate:
    """The generic cell rate algorithm over names: `per_minute`, evenly spread, or as a burst of one minute's requests
    or of `burst`, the larger of the two. Above 65 536 names it forgets the one that was charged least recently.
    """

    def __init__(self, per_minute: float, burst: float, clock: _Clock) -> None:
        self._interval = 60 / per_minute
        self._ahead = max(60.0, burst * self._interval)
        self._clock = clock
        self._paid_until: OrderedDict[str, float] = OrderedDict()

    def excess(self, name: str) -> float:
        """Seconds until the next request of `name` is within the rate; 0 or less now."""
        return self._paid_until.get(name, 0.0) + self._interval - self._clock() - self._ahead

    def charge(self, name: str, cost: float) -> None:
        now = self._clock()
        paid_until = max(self._paid_until.pop(name, 0.0), now) + cost * self._interval
        # At most one minute over the limit, so that a burst of failures does not lock an address out for longer.
        self._paid_until[name] = min(paid_until, now + self._ahead + 60)
        if len(self._paid_until) > _MAX_ADDRESSES:
            self._paid_until.popitem(last=False)


class AddressBuckets:
    """`per_minute` requests per address (0: no limit), and 16 times as many per IPv6 site.

    The state is in the memory of one worker: an unauthenticated client never causes a write.
    """

    def __init__(self, per_minute: float, *, burst: int = 0, clock: _Clock = time.monotonic) -> None:
        self._clients = _Rate(per_minute, burst, clock) if per_minute else None
        self._sites = _Rate(per_minute * _CLIENTS_PER_SITE, burst * _CLIENTS_PER_SITE, clock) if per_minute else None

    @classmethod
    def of_worker(cls, per_minute: int, workers: int, clock: _Clock = time.monotonic) -> AddressBuckets:
        """The share of one of `workers`, each of which counts for itself. In the long run all workers together let
        through about `per_minute`; each of them allows the burst that one person needs.
        """
        return cls(per_minute / workers, burst=min(per_minute, _MIN_BURST), clock=clock)

    def check(self, address: str) -> None:
        """RateLimited while the address or its site is over its limit; charges nothing."""
        if self._clients is None or self._sites is None:
            return
        excess = self._clients.excess(address)
        if site := _site(address):
            excess = max(excess, self._sites.excess(site))
        if excess > 0:
            raise RateLimited(retry_after=int(excess) + 1, limit="address")

    def charge(self, address: str, cost: float = 1) -> None:
        if self._clients is None or self._sites is None:
            return
        if site := _site(address):
            if self._sites.excess(site) > 0:
                # Rejected as a whole. Entries for its addresses would displace those of other clients.
                return
            self._sites.charge(site, cost)
        self._clients.charge(address, cost)


def _site(address: str) -> str | None:
    return site_of(address) if ":" in address else None


class AddressRateLimit:
    """Charges the address of a request that carries no API key: for every request, or only for failures."""

    def __init__(self, addresses: ClientAddresses, limiter: AddressBuckets) -> None:
        self._addresses = addresses
        self._limiter = limiter
        self._repeats = BoundedCounts(_MAX_REPEATS)

    def charge(self, req: Request) -> None:
        """One ordinary request; RateLimited when the address is over its limit."""
        address = self._addresses.of(req)
        self._limiter.check(address)
        self._limiter.charge(address)

    def charge_failure(self, req: Request) -> None:
        self._limiter.charge(self._addresses.of(req), FAILURE_COST)

    def charging(self, req: Request) -> Charged:
        return Charged(self._limiter, self._addresses.of(req), self._repeats)


class Charged:
    """Context manager around the handling of one request: it charges a failure, and a repeated rejection of a late
    answer. Success costs nothing, so that many devices may share an address.
    """

    def __init__(self, limiter: AddressBuckets, address: str, repeats: BoundedCounts) -> None:
        self._limiter = limiter
        self._address = address
        self._repeats = repeats
        self._subject: Hashable = None

    def __enter__(self) -> Charged:
        return self

    def check(self) -> None:
        """RateLimited; call it after the checks of the body, whose errors come first."""
        self._limiter.check(self._address)

    def about(self, *subject: str) -> None:
        """What is answered, and by whom: a late answer is a repetition when the same subject was late before."""
        self._subject = subject

    def idle(self, *query: str) -> bool:
        """Charge a query that found nothing. False for one that was made before."""
        self._limiter.charge(self._address, IDLE_COST)
        return self._repeats.add(query) == 1

    def repeatable(self) -> None:
        """Charge an accepted request that its sender can repeat for as long as it likes."""
        self._limiter.charge(self._address, IDLE_COST)

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if not isinstance(error, Problem) or isinstance(error, Retryable):
            return
        if isinstance(error, _LATE) and self._subject is not None and self._repeats.add(self._subject) == 1:
            return
        self._limiter.charge(self._address, FAILURE_COST)
