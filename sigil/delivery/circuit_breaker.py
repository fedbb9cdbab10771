"""Whether somebody is there, as this worker learns it from its own requests and from the other workers'."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Protocol

from sigil.core import circuit_breaker
from sigil.core.session_store import Decision, Key, SessionStore
from sigil.delivery.backlog import Backlog


class BreakerObserver(Protocol):
    """`lost` and `found` are called once an outage, by one of all workers; `is_up` in each, when it changes."""

    def opened(self, reason: str) -> None: ...

    def closed(self, seconds: float) -> None: ...

    def set_up(self, up: bool) -> None: ...


class CircuitBreaker:
    """`key` is that of the row that tells; `run` is the same in all workers of one start of the server."""

    key: ClassVar[Key]

    def __init__(
        self,
        *,
        store: SessionStore,
        outgoing: Backlog,
        news: BreakerObserver,
        run: int,
        randomness: Callable[[int], bytes],
    ) -> None:
        self._store = store
        self._outgoing = outgoing
        self._news = news
        self._run = run
        self._randomness = randomness
        self._up: bool | None = None

    async def is_closed(self) -> bool:
        """As far as anyone knows; nothing is claimed while it is not."""
        away = circuit_breaker.is_open(circuit_breaker.current_run(self._run, await self._store.get(self.key)))
        self._outgoing.pause(away)
        if self._up is not None:
            self._report(not away)
        return not away

    async def may_probe(self) -> bool:
        """Whether this worker is the one to try now, as `no_answer` and `answered` are then to be told."""

        def rule(now: float, rows: tuple[Any, ...]) -> Decision[bool]:
            return circuit_breaker.may_probe(now, rows[0], key=self.key, run=self._run)

        return await self._store.transact([self.key], rule)

    async def record_failure(self, reason: str, began: float, *, probing: bool) -> None:
        """A request that began at `began` got no answer that counts."""
        jitter = self._randomness(1)[0] / 255

        def rule(now: float, rows: tuple[Any, ...]) -> Decision[bool]:
            return circuit_breaker.record_failure(
                now, rows[0], key=self.key, run=self._run, began=began, probing=probing, jitter=jitter
            )

        self._report(False)
        if await self._store.transact([self.key], rule):
            self._news.opened(reason)
        await self.is_closed()

    async def record_success(self, began: float) -> None:
        """A request that began at `began` was answered."""
        self._report(True)
        if not circuit_breaker.is_open(await self._store.get(self.key)):
            return

        def rule(now: float, rows: tuple[Any, ...]) -> Decision[float | None]:
            return circuit_breaker.record_success(now, rows[0], key=self.key, run=self._run, began=began)

        seconds = await self._store.transact([self.key], rule)
        if seconds is not None:
            self._news.closed(seconds)
        await self.is_closed()

    def _report(self, up: bool) -> None:
        if up != self._up:
            self._up = up
            self._news.set_up(up)
