"""Whether somebody is there, as this worker learns it from its own requests and from the other workers'."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Protocol

from sigil.core import circuit_breaker
from sigil.core.session_store import Decision, Key, SessionStore
from sigil.delivery.backlog import Outgoing


class OutageNews(Protocol):
    """`lost` and `found` are called once an outage, by one of all workers; `is_up` in each, when it changes."""

    def lost(self, reason: str) -> None: ...

    def found(self, seconds: float) -> None: ...

    def is_up(self, up: bool) -> None: ...


class OutageWatch:
    """`key` is that of the row that tells; `run` is the same in all workers of one start of the server."""

    key: ClassVar[Key]

    def __init__(
        self,
        *,
        store: SessionStore,
        outgoing: Outgoing,
        news: OutageNews,
        run: int,
        randomness: Callable[[int], bytes],
    ) -> None:
        self._store = store
        self._outgoing = outgoing
        self._news = news
        self._run = run
        self._randomness = randomness
        self._up: bool | None = None

    async def is_there(self) -> bool:
        """As far as anyone knows; nothing is claimed while it is not."""
        away = circuit_breaker.away(circuit_breaker.of_run(self._run, await self._store.get(self.key)))
        self._outgoing.hold(away)
        if self._up is not None:
            self._tell(not away)
        return not away

    async def may_probe(self) -> bool:
        """Whether this worker is the one to try now, as `no_answer` and `answered` are then to be told."""

        def rule(now: float, rows: tuple[Any, ...]) -> Decision[bool]:
            return circuit_breaker.may_probe(now, rows[0], key=self.key, run=self._run)

        return await self._store.decide([self.key], rule)

    async def no_answer(self, reason: str, began: float, *, probing: bool) -> None:
        """A request that began at `began` got no answer that counts."""
        jitter = self._randomness(1)[0] / 255

        def rule(now: float, rows: tuple[Any, ...]) -> Decision[bool]:
            return circuit_breaker.no_answer(
                now, rows[0], key=self.key, run=self._run, began=began, probing=probing, jitter=jitter
            )

        self._tell(False)
        if await self._store.decide([self.key], rule):
            self._news.lost(reason)
        await self.is_there()

    async def answered(self, began: float) -> None:
        """A request that began at `began` was answered."""
        self._tell(True)
        if not circuit_breaker.away(await self._store.get(self.key)):
            return

        def rule(now: float, rows: tuple[Any, ...]) -> Decision[float | None]:
            return circuit_breaker.answered(now, rows[0], key=self.key, run=self._run, began=began)

        seconds = await self._store.decide([self.key], rule)
        if seconds is not None:
            self._news.found(seconds)
        await self.is_there()

    def _tell(self, up: bool) -> None:
        if up != self._up:
            self._up = up
            self._news.is_up(up)
