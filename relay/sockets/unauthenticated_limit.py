"""A limit of WebSocket connections that are not authenticated yet."""

from __future__ import annotations

from collections import Counter


class UnauthenticatedLimit:
    """A total limit, and one for each address. An unauthenticated client can hold a connection for 30 s at no cost."""

    def __init__(self, max_total: int = 1024, max_per_address: int = 128) -> None:
        self._max_total = max_total
        self._max_per_address = max_per_address
        self._by_address: Counter[str] = Counter()
        self._count = 0

    def add(self, address: str) -> bool:
        if self._count >= self._max_total or self._by_address[address] >= self._max_per_address:
            return False
        self._count += 1
        self._by_address[address] += 1
        return True

    def remove(self, address: str) -> None:
        self._count -= 1
        self._by_address[address] -= 1
        if not self._by_address[address]:
            del self._by_address[address]
