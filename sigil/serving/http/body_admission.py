"""Limits on the request bodies that a worker reads at the same time: their number, their bytes, their duration.

A worker handles a request in one go once its body is complete, so only requests that wait for their body can pile up.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from sigil.protocol.errors import Overloaded
from sigil.serving.http.client_address import site_of

BODY_SECONDS = 10
# A body that takes longer than this is slow, and may be evicted for a new one.
_SLOW_SECONDS = 1.0


@dataclass(eq=False, slots=True)
class BodyRead:
    """One body that is being read: its client (see `ClientAddresses`), its start (monotonic), the task that reads it,
    and the bytes read so far.

    `evicted`: the task was cancelled because of these limits and for no other reason.
    """

    address: str
    since: float
    task: asyncio.Task[object]
    held: int = 0
    evicted: bool = False
    site: str | None = None


class BodyAdmission:
    """At most `max_bodies` at once, of them `max_per_address` from one address, `max_per_site` from one IPv6 /48, and
    `max_bytes` of unfinished bodies in total; none for longer than BODY_SECONDS.

    At the limit, a new body evicts the oldest slow one; when none is slow, the new body is rejected as Overloaded. The
    same holds within one address: behind a proxy that is not configured, many clients share its address with an
    attacker. Without the limits per address and site, one attacker who keeps opening bodies would occupy all slots.
    """

    def __init__(
        self, max_bodies: int = 1024, max_per_address: int = 256, max_bytes: int = 64 << 20, max_per_site: int = 512
    ) -> None:
        self._max_bodies = max_bodies
        self._max_per_address = max_per_address
        self._max_per_site = max_per_site
        self._max_bytes = max_bytes
        self._bodies: dict[BodyRead, None] = {}
        # Plain dicts: a Counter took 3 µs more of a request.
        self._per_address: dict[str, int] = {}
        self._per_site: dict[str, int] = {}
        self._held = 0
        self._timer: asyncio.TimerHandle | None = None

    def enter(self, body: BodyRead) -> None:
        body.site = site_of(body.address) if ":" in body.address else None
        # The smallest limit first: a client that is over its own limit evicts no body of another.
        of_address = self._per_address.get(body.address, 0)
        of_site = self._per_site.get(body.site, 0) if body.site else 0
        if of_address >= self._max_per_address:
            self._evict_slow(body, next(other for other in self._bodies if other.address == body.address))
        elif of_site >= self._max_per_site:
            self._evict_slow(body, next(other for other in self._bodies if other.site == body.site))
        elif len(self._bodies) >= self._max_bodies:
            self._evict_slow(body, next(iter(self._bodies)))
        self._bodies[body] = None
        _count(self._per_address, body.address, 1)
        if body.site:
            _count(self._per_site, body.site, 1)
        if self._timer is None:
            self._start_timer()

    def _start_timer(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(_SLOW_SECONDS, self._evict_late)

    def _evict_slow(self, new: BodyRead, oldest: BodyRead) -> None:
        if oldest.since > new.since - _SLOW_SECONDS:
            raise Overloaded
        self._evict(oldest)

    def add(self, body: BodyRead, size: int) -> None:
        """Count a piece of an unfinished body; evicts the oldest bodies while the total is over the limit."""
        if body in self._bodies:
            body.held += size
            self._held += size
            while self._held > self._max_bytes:
                self._evict(next(iter(self._bodies)))

    def leave(self, body: BodyRead) -> None:
        if body in self._bodies:
            del self._bodies[body]
            self._held -= body.held
            _count(self._per_address, body.address, -1)
            if body.site:
                _count(self._per_site, body.site, -1)

    def _evict(self, body: BodyRead) -> None:
        self.leave(body)
        body.evicted = True
        body.task.cancel()

    def _evict_late(self) -> None:
        # One timer for all bodies: a timer for each took 6 µs of a request.
        stalled = asyncio.get_running_loop().time() - self._timer.when() if self._timer else 0.0
        self._timer = None
        if stalled > _SLOW_SECONDS:
            # The worker stood still, and not the clients: after SIGSTOP for 15 s, bodies that had arrived in full got
            # a 400 that no client retries.
            for body in self._bodies:
                body.since += stalled
        late = time.monotonic() - BODY_SECONDS
        for body in [body for body in self._bodies if body.since < late]:
            self._evict(body)
        if self._bodies:
            self._start_timer()


def _count(counts: dict[str, int], key: str, change: int) -> None:
    """Keys with a count of 0 are dropped: clients choose their number."""
    count = counts.get(key, 0) + change
    if count:
        counts[key] = count
    else:
        del counts[key]
