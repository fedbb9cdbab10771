"""A bounded queue of names that serves the owners (API keys) in turn: a long queue of one owner delays no other."""

from __future__ import annotations

from collections import OrderedDict, deque

from sigil.core.owner_share import SHARE_PER_OWNER, dynamic_limit


class FairQueue:
    """At most `cap` names, of which one owner has its share."""

    def __init__(self, cap: int) -> None:
        self._cap = cap
        self._count = 0
        # The owners in the order of their turns, each with at least one name.
        self._names: OrderedDict[bytes, deque[bytes]] = OrderedDict()

    def __len__(self) -> int:
        return self._count

    def add(self, owner: bytes, name: bytes) -> bool:
        """False: there is no place for it."""
        names = self._names.get(owner)
        if self._count >= self._cap or (
            names is not None and len(names) >= dynamic_limit(SHARE_PER_OWNER, self._cap - self._count)
        ):
            return False
        if names is None:
            self._names[owner] = deque((name,))
        else:
            names.append(name)
        self._count += 1
        return True

    def take(self, limit: int) -> list[tuple[bytes, bytes]]:
        """Remove at most `limit` names, one of each owner in turn and the oldest of an owner first: (owner, name)."""
        taken: list[tuple[bytes, bytes]] = []
        while self._names and len(taken) < limit:
            owner, names = self._names.popitem(last=False)
            taken.append((owner, names.popleft()))
            if names:
                self._names[owner] = names
        self._count -= len(taken)
        return taken

    def clear(self) -> None:
        self._names.clear()
        self._count = 0
