"""The bodies that a worker is reading: how many at once, of how much, and who gives way.

A request is served in one go once its body is there, so what waits for bodies is what can pile up.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass

from sigil.protocol.errors import Overloaded

# A body that takes longer than this is slow, and gives way to the next one.
_SLOW_SECONDS = 1.0


@dataclass(eq=False)
class Reader:
    """One body on its way: from which address, since when (loop time), bytes so far."""

    address: str
    since: float
    timeout: asyncio.Timeout
    held: int = 0


class Intake:
    """At most `most` bodies, `most_of_one` from one address, and `most_bytes` of unfinished ones together.

    When it is full, a newcomer takes the place of the oldest slow body; when none is slow it is Overloaded.
    Without the bound per address, one stranger who keeps opening bodies would use up all places.
    """

    def __init__(self, most: int = 1024, most_of_one: int = 256, most_bytes: int = 64 << 20) -> None:
        self._most = most
        self._most_of_one = most_of_one
        self._most_bytes = most_bytes
        self._readers: dict[Reader, None] = {}
        self._of: Counter[str] = Counter()
        self._held = 0

    def enter(self, reader: Reader) -> None:
        if self._of[reader.address] >= self._most_of_one:
            raise Overloaded
        if len(self._readers) >= self._most:
            oldest = next(iter(self._readers))
            if oldest.since > reader.since - _SLOW_SECONDS:
                raise Overloaded
            self._cut(oldest)
        self._readers[reader] = None
        self._of[reader.address] += 1

    def hold(self, reader: Reader, size: int) -> None:
        """Account for a piece of an unfinished body; the oldest are cut off while all are too large together."""
        if reader in self._readers:
            reader.held += size
            self._held += size
            while self._held > self._most_bytes:
                self._cut(next(iter(self._readers)))

    def leave(self, reader: Reader) -> None:
        if reader in self._readers:
            del self._readers[reader]
            self._held -= reader.held
            self._of[reader.address] -= 1
            if not self._of[reader.address]:
                del self._of[reader.address]

    def _cut(self, reader: Reader) -> None:
        self.leave(reader)
        reader.timeout.reschedule(reader.since)
