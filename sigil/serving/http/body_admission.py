"""The bodies that a worker is reading: how many at once, of how much, and who gives way.

A request is served in one go once its body is there, so what waits for bodies is what can pile up.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass

from sigil.protocol.errors import Overloaded

BODY_SECONDS = 10
# A body that takes longer than this is slow, and gives way to the next one.
_SLOW_SECONDS = 1.0


@dataclass(eq=False, slots=True)
class BodyRead:
    """One body on its way: from whom (see `ClientAddresses`), since when (monotonic), who reads it, bytes so far.

    `cut`: its time is over, and its task was cancelled for that alone.
    """

    address: str
    since: float
    task: asyncio.Task[object]
    held: int = 0
    cut: bool = False


class BodyAdmission:
    """At most `most` bodies, `most_of_one` from one address, and `most_bytes` of unfinished ones together; none for
    longer than BODY_SECONDS.

    When it is full, a newcomer takes the place of the oldest slow body; when none is slow it is Overloaded. So it is
    among the bodies of one address, too: behind a proxy that is not configured, many share it with a stranger.
    Without the bound per address, one stranger who keeps opening bodies would use up all places.
    """

    def __init__(self, most: int = 1024, most_of_one: int = 256, most_bytes: int = 64 << 20) -> None:
        self._most = most
        self._most_of_one = most_of_one
        self._most_bytes = most_bytes
        self._readers: dict[BodyRead, None] = {}
        self._of: Counter[str] = Counter()
        self._held = 0
        self._watch: asyncio.TimerHandle | None = None

    def enter(self, reader: BodyRead) -> None:
        if self._of[reader.address] >= self._most_of_one:
            self._evict_slow(reader, next(other for other in self._readers if other.address == reader.address))
        elif len(self._readers) >= self._most:
            self._evict_slow(reader, next(iter(self._readers)))
        self._readers[reader] = None
        self._of[reader.address] += 1
        if self._watch is None:
            self._watch = asyncio.get_running_loop().call_later(_SLOW_SECONDS, self._cut_late)

    def _evict_slow(self, newcomer: BodyRead, oldest: BodyRead) -> None:
        if oldest.since > newcomer.since - _SLOW_SECONDS:
            raise Overloaded
        self._cut(oldest)

    def hold(self, reader: BodyRead, size: int) -> None:
        """Account for a piece of an unfinished body; the oldest are cut off while all are too large together."""
        if reader in self._readers:
            reader.held += size
            self._held += size
            while self._held > self._most_bytes:
                self._cut(next(iter(self._readers)))

    def leave(self, reader: BodyRead) -> None:
        if reader in self._readers:
            del self._readers[reader]
            self._held -= reader.held
            self._of[reader.address] -= 1
            if not self._of[reader.address]:
                del self._of[reader.address]

    def _cut(self, reader: BodyRead) -> None:
        self.leave(reader)
        reader.cut = True
        reader.task.cancel()

    def _cut_late(self) -> None:
        # One timer for all: one for each body was 6 µs of a request.
        self._watch = None
        late = time.monotonic() - BODY_SECONDS
        for reader in [reader for reader in self._readers if reader.since < late]:
            self._cut(reader)
        if self._readers:
            self._watch = asyncio.get_running_loop().call_later(_SLOW_SECONDS, self._cut_late)
