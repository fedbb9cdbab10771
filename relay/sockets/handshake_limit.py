"""Connections on the port of WebSockets that did not ask for one yet: they cost a stranger nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import NamedTuple, Protocol

ARRIVALS = 1024
ARRIVALS_OF_ONE = 128
# A request is there with the connection, or a round trip later; who takes longer gives way.
_SLOW_SECONDS = 2.0


class Arrival(Protocol):
    """A connection; `cut` ends it at once."""

    def cut(self) -> None: ...


class _Place(NamedTuple):
    address: str | None
    since: float


class HandshakeLimit:
    """At most `most` at once, and `most_of_one` of one address; None is a proxy that is believed, and speaks for many.

    When there is no place a newcomer takes that of the oldest, if it is slow, and is cut off itself if none is: silent
    connections must not keep everybody out. `on_cut` is told of each; `clock` gives seconds, and never goes back.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        on_cut: Callable[[], None] = lambda: None,
        *,
        most: int = ARRIVALS,
        most_of_one: int = ARRIVALS_OF_ONE,
    ) -> None:
        self._clock = clock
        self._on_cut = on_cut
        self._most = most
        self._most_of_one = most_of_one
        self._here: dict[Arrival, _Place] = {}
        self._of: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._here)

    def enter(self, arrival: Arrival, address: str | None) -> None:
        now = self._clock()
        if address is not None and self._of[address] >= self._most_of_one:
            oldest = next(other for other, place in self._here.items() if place.address == address)
        elif len(self._here) >= self._most:
            oldest = next(iter(self._here))
        else:
            self._take_place(arrival, _Place(address, now))
            return
        gives_way = now - self._here[oldest].since > _SLOW_SECONDS
        if gives_way:
            self.leave(oldest)
            self._take_place(arrival, _Place(address, now))
        self._on_cut()
        (oldest if gives_way else arrival).cut()

    def leave(self, arrival: Arrival) -> None:
        """It asked, or is gone; also of one that has no place."""
        place = self._here.pop(arrival, None)
        if place is not None and place.address is not None:
            self._of[place.address] -= 1
            if not self._of[place.address]:
                del self._of[place.address]

    def _take_place(self, arrival: Arrival, place: _Place) -> None:
        self._here[arrival] = place
        if place.address is not None:
            self._of[place.address] += 1
