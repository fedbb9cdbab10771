"""WebSocket connections that did not say yet who they are."""

from __future__ import annotations

from collections import Counter


class UnauthenticatedLimit:
    """So many at once, and so many of one address: each costs a stranger nothing, for 30 seconds."""

    def __init__(self, most: int = 1024, most_of_one: int = 128) -> None:
        self._most = most
        self._most_of_one = most_of_one
        self._of: Counter[str] = Counter()
        self._count = 0

    def enter(self, address: str) -> bool:
        if self._count >= self._most or self._of[address] >= self._most_of_one:
            return False
        self._count += 1
        self._of[address] += 1
        return True

    def leave(self, address: str) -> None:
        self._count -= 1
        self._of[address] -= 1
        if not self._of[address]:
            del self._of[address]
