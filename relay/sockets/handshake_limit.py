"""A limit of open connections without a WebSocket handshake: an unauthenticated client can open many at no cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import NamedTuple, Protocol

MAX_HANDSHAKES = 1024
MAX_HANDSHAKES_PER_ADDRESS = 128
# A request arrives with the connection, or one round trip later. A connection that takes longer may be evicted.
_EVICTABLE_SECONDS = 2.0


class PendingHandshake(Protocol):
    """A connection; `abort` closes it at once."""

    def abort(self) -> None: ...


class _Entry(NamedTuple):
    address: str | None
    since: float


class HandshakeLimit:
    """At most `max_total` at once, and `max_per_address` of one address. The address None is a trusted proxy: only the
    total limits it, since it connects for many clients.

    A connection over a limit evicts the oldest one that counts against it, if that one is slow; otherwise it is aborted
    itself. So silent connections cannot keep other clients out. `on_abort` is called for each; `clock` gives monotonic
    seconds.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        on_abort: Callable[[], None] = lambda: None,
        *,
        max_total: int = MAX_HANDSHAKES,
        max_per_address: int = MAX_HANDSHAKES_PER_ADDRESS,
    ) -> None:
        self._clock = clock
        self._on_abort = on_abort
        self._max_total = max_total
        self._max_per_address = max_per_address
        self._pending: dict[PendingHandshake, _Entry] = {}
        self._by_address: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._pending)

    def add(self, connection: PendingHandshake, address: str | None) -> None:
        now = self._clock()
        if address is not None and self._by_address[address] >= self._max_per_address:
            oldest = next(other for other, entry in self._pending.items() if entry.address == address)
        elif len(self._pending) >= self._max_total:
            oldest = next(iter(self._pending))
        else:
            self._add(connection, _Entry(address, now))
            return
        evicts = now - self._pending[oldest].since > _EVICTABLE_SECONDS
        if evicts:
            self.remove(oldest)
            self._add(connection, _Entry(address, now))
        self._on_abort()
        (oldest if evicts else connection).abort()

    def remove(self, connection: PendingHandshake) -> None:
        """Its handshake arrived, or it is closed. A connection that is not counted is ignored."""
        entry = self._pending.pop(connection, None)
        if entry is not None and entry.address is not None:
            self._by_address[entry.address] -= 1
            if not self._by_address[entry.address]:
                del self._by_address[entry.address]

    def _add(self, connection: PendingHandshake, entry: _Entry) -> None:
        self._pending[connection] = entry
        if entry.address is not None:
            self._by_address[entry.address] += 1
