"""The limits on the connections of one worker."""

from __future__ import annotations

from dataclasses import dataclass, replace

# The store, the log, metrics, loops, and the connections to the relay, PostgreSQL and webhooks.
_OWN_DESCRIPTORS = 64
_LEAST = 8


@dataclass(frozen=True)
class ConnectionLimits:
    """Numbers are per worker, times in seconds. None of them but `total` concerns a trusted proxy.

    `total`: open connections, handshakes included. `per_address`: connections of one address without a request in
    progress; four times as many of one /48 of IPv6. `first_request`: from the connection to its first complete request
    head, TLS handshake included. `idle`: without a request in progress. `write`: until the client has received a
    response. `unread`: bytes of responses that it may leave unread while it receives nothing for `stalled`.
    `share`: of the descriptors of the process; the others are for bursts between two rounds of the guard.
    """

    total: int = 10_000
    per_address: int = 1024
    first_request: float = 12
    idle: float = 300
    write: float = 30
    unread: int = 256 * 1024
    stalled: float = 3
    share: float = 0.75

    def within(self, descriptors: int) -> ConnectionLimits:
        """These limits, reduced so that a process that may open `descriptors` has some to spare."""
        total = max(_LEAST, min(self.total, int((descriptors - _OWN_DESCRIPTORS) * self.share)))
        return replace(self, total=total, per_address=max(_LEAST, min(self.per_address, total // 4)))
