"""Which outbox rows a worker tries to claim next: those in its backlog, and from time to time all that are due.

A candidate is only a name. Several workers may hold the same one; the claim, a transaction, gives the row to one of
them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from sigil.delivery.backlog import Backlog

QUERY_SECONDS = 1.0
"""How often a worker queries the store for due rows: retries, outcomes, and the rows of dead or busy workers."""


class Candidates:
    """`due(limit)` queries the store for the names of due rows; `jitter` gives 0..1, `now` monotonic seconds."""

    def __init__(
        self,
        *,
        backlog: Backlog,
        due: Callable[[int], Awaitable[list[bytes]]],
        jitter: Callable[[], float],
        now: Callable[[], float] | None = None,
    ) -> None:
        self._backlog = backlog
        self._due = due
        self._jitter = jitter
        self._now = now or _loop_time
        self._query_at = 0.0

    async def wait(self) -> bool:
        """Wait for a name in the backlog, or until the next query is due; whether the backlog has a name."""
        return await self._backlog.wait(max(0.0, self._query_at - self._now()))

    async def next(self, limit: int) -> list[bytes]:
        """At most `limit` names to claim, without duplicates."""
        due: list[bytes] = []
        if self._now() >= self._query_at:
            # Half for each: neither the due rows nor the backlog may wait behind the other.
            share = max(1, limit // 2) if len(self._backlog) else limit
            due = await self._due(share)
            if len(due) == share:
                # There may be more.
                self._query_at = self._now()
            else:
                self.postpone()
        return list(dict.fromkeys([*due, *self._backlog.take(limit - len(due))]))

    def postpone(self) -> None:
        """Query again in about QUERY_SECONDS."""
        # 20 % more or less: else all workers of a host query at the same time.
        self._query_at = self._now() + QUERY_SECONDS * (0.8 + 0.4 * self._jitter())


def _loop_time() -> float:
    return asyncio.get_running_loop().time()
