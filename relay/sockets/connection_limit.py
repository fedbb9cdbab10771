"""A limit of open connections, in total and by address: an unauthenticated client can open many at no cost."""

from __future__ import annotations

import resource
from collections import defaultdict
from collections.abc import Callable, Hashable
from typing import NamedTuple, Protocol, cast

MAX_UNAUTHENTICATED = 2048
_ADDRESS_SHARE = 8
"""One address may hold an eighth of the unauthenticated connections."""


class Evictable(Protocol):
    """A connection; `abort` closes it and its descriptor at once, without waiting for its peer."""

    def abort(self) -> None: ...


class ConnectionLimit:
    """At most `max_total` at once, and `max_per_address` of one address.

    Over `max_per_address`, the new connection evicts the oldest of its own address; over `max_total`, the oldest of the
    address that holds the most. So clients of few addresses that open connections without end evict each other alone.
    The address None is a trusted proxy: each of its connections counts as an address of its own, since it connects for
    many clients. `on_evict` is called for each eviction. All operations take constant time.
    """

    def __init__(
        self, *, max_total: int, max_per_address: int | None = None, on_evict: Callable[[], None] = lambda: None
    ) -> None:
        self.max_total = max_total
        self._max_per_address = max_per_address or max_total
        self._on_evict = on_evict
        self._address_of: dict[Evictable, Hashable] = {}
        # By address, the oldest first; and the addresses by the number of their connections.
        self._connections: dict[Hashable, dict[Evictable, None]] = {}
        self._with_count: defaultdict[int, dict[Hashable, None]] = defaultdict(dict)
        self._most = 0

    def __len__(self) -> int:
        return len(self._address_of)

    def add(self, connection: Evictable, address: str | None) -> None:
        """Count a connection; one that is counted already becomes the newest of `address`."""
        self.remove(connection)
        key = cast(Hashable, connection) if address is None else address
        if len(self._connections.get(key, ())) >= self._max_per_address:
            self._evict(key)
        elif len(self._address_of) >= self.max_total:
            self._evict(next(iter(self._with_count[self._most])))
        mine = self._connections.setdefault(key, {})
        mine[connection] = None
        self._address_of[connection] = key
        self._move(key, len(mine) - 1, len(mine))

    def remove(self, connection: Evictable) -> None:
        """It is closed, or no longer subject to this limit. A connection that is not counted is ignored."""
        if connection not in self._address_of:
            return
        key = self._address_of.pop(connection)
        mine = self._connections[key]
        del mine[connection]
        if not mine:
            del self._connections[key]
        self._move(key, len(mine) + 1, len(mine))

    def _evict(self, key: Hashable) -> None:
        oldest = next(iter(self._connections[key]))
        self.remove(oldest)
        self._on_evict()
        oldest.abort()

    def _move(self, key: Hashable, before: int, after: int) -> None:
        if before:
            del self._with_count[before][key]
        if after:
            self._with_count[after][key] = None
        self._most = max(self._most, after)
        if not self._with_count[self._most]:
            # The count of one address changed by one.
            del self._with_count[self._most]
            self._most -= 1


class Capacity(NamedTuple):
    """Connections of one worker to the port of WebSockets."""

    unauthenticated: int
    authenticated: int

    @property
    def unauthenticated_of_address(self) -> int:
        return max(1, self.unauthenticated // _ADDRESS_SHARE)

    @classmethod
    def of_process(cls) -> Capacity:
        """An eighth and three eighths of the descriptors that this process may open: the other half is for the main
        port, the database, the push providers, and connections that are being closed."""
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        descriptors = 1 << 20 if soft == resource.RLIM_INFINITY else soft
        return cls(min(MAX_UNAUTHENTICATED, descriptors // 8), descriptors * 3 // 8)
