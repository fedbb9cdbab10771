"""Which connections are closed, and why: decisions over what is known of them, without a clock or a socket."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from sigil.serving.connections.activity import Peer, Requests
from sigil.serving.connections.limits import ConnectionLimits
from sigil.serving.connections.observer import Reason
from sigil.serving.connections.unread import UnreadResponses

# Above the first share of the total, connections are closed down to the second one: at the total, Granian is deaf.
_FULL, _EASED = 0.9, 0.8
_NETWORK_FACTOR = 4


@dataclass(eq=False, slots=True)
class Connection:
    """One open connection. `address` and `network` are the keys of its limits: the client's address (or /64) and its
    /48; both are None for a trusted proxy, and `network` for IPv4. `requests` is None before the first one.
    """

    descriptor: int
    inode: int
    peer: Peer
    address: str | None
    network: str | None
    since: float
    unread: UnreadResponses
    requests: Requests | None = None

    def idle_since(self) -> float | None:
        """None while a request is in progress."""
        if self.requests is None:
            return self.since
        return None if self.requests.running else self.requests.changed_at


def to_close(open_connections: Iterable[Connection], now: float, limits: ConnectionLimits) -> dict[Connection, Reason]:
    """The connections to close now. Those of trusted proxies stay, and those with a request in progress, unless its
    client does not read.
    """
    closed: dict[Connection, Reason] = {}
    candidates: list[Connection] = []
    total = 0
    for connection in open_connections:
        total += 1
        if connection.address is None:
            continue
        if reason := _overdue(connection, now, limits):
            closed[connection] = reason
        elif connection.idle_since() is not None:
            candidates.append(connection)
    # Connections that never sent a request go first, then those that have been idle the longest.
    candidates.sort(key=lambda connection: (connection.requests is not None, connection.idle_since() or 0.0))
    _close_above(closed, candidates, limits)
    excess = total - len(closed) - int(limits.total * _EASED)
    if total - len(closed) > limits.total * _FULL:
        closed |= dict.fromkeys([c for c in candidates if c not in closed][:excess], "total_limit")
    return closed


def _overdue(connection: Connection, now: float, limits: ConnectionLimits) -> Reason | None:
    if connection.requests is None:
        return "no_request" if now - connection.since > limits.first_request else None
    idle_since = connection.idle_since()
    if connection.unread.is_behind(now, limits, in_use=idle_since is None):
        return "unread_response"
    return "idle" if idle_since is not None and now - idle_since > limits.idle else None


def _close_above(closed: dict[Connection, Reason], candidates: list[Connection], limits: ConnectionLimits) -> None:
    """Close the first candidates of each address and network that has more than its limit."""
    by_address: dict[str, list[Connection]] = defaultdict(list)
    by_network: dict[str, list[Connection]] = defaultdict(list)
    for connection in candidates:
        if connection.address is not None:
            by_address[connection.address].append(connection)
        if connection.network is not None:
            by_network[connection.network].append(connection)
    for same in by_address.values():
        closed |= dict.fromkeys(same[: max(0, len(same) - limits.per_address)], "address_limit")
    for same in by_network.values():
        left = [connection for connection in same if connection not in closed]
        excess = len(left) - limits.per_address * _NETWORK_FACTOR
        closed |= dict.fromkeys(left[: max(0, excess)], "network_limit")
