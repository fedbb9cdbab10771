"""Counts of names in bounded memory, for what unauthenticated clients may repeat at will."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable


class BoundedCounts:
    """How often each name was added; the name that was added least recently is forgotten above `max_names`."""

    def __init__(self, max_names: int) -> None:
        self._max_names = max_names
        self._counts: OrderedDict[Hashable, int] = OrderedDict()

    def __len__(self) -> int:
        return len(self._counts)

    def add(self, name: Hashable) -> int:
        """The count of `name` with this one: 1 for the first."""
        count = self._counts.pop(name, 0) + 1
        self._counts[name] = count
        if len(self._counts) > self._max_names:
            self._counts.popitem(last=False)
        return count
