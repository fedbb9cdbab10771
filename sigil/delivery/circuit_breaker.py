"""One circuit breaker for the relay and one for the webhook receiver.

While a breaker is open, no worker claims an outbox row, so that an outage uses up no claims and no tries. Each worker
learns the state from its own requests and from one row in the store that all workers of the host share
(`sigil.core.circuit_breaker`). One worker at a time sends a probe; a request that began after the opening and succeeds
closes the breaker for all.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

from sigil.core import circuit_breaker
from sigil.core.session_store import Decision, Key, SessionStore
from sigil.delivery.backlog import Backlog

RELAY_FAILURES_TO_OPEN = 1
"""The first request without a response that counts means that the relay is unreachable."""
RELAY_START_SECONDS = 60.0
"""How long after the start of a worker an unreachable relay may be one that starts with the server."""
RECEIVER_FAILURES_TO_OPEN = 10
"""In a row, in one worker. More than the tries of one event by the default schedule: an event that the receiver always
fails on delays no other event. And a receiver that fails one time in five reaches ten in a row once in ten million."""


class BreakerObserver(Protocol):
    """`closed` is called once per outage, in one worker, `opened` once and again when the reason changes. `starting`:
    the other side may still be starting, with this server."""

    def opened(self, reason: str, starting: bool) -> None: ...

    def closed(self, seconds: float) -> None: ...


class RequestResult(NamedTuple):
    """A request that began at the Unix time `began`. `failure` is the reason for the log, None for a success."""

    began: float
    failure: str | None = None


class CircuitBreaker:
    """Opens at the `failures_to_open`th failure in a row in one worker; a failed probe counts at once.

    `key` names the row that all workers share; `run` is the same in all workers of one start of the server. While the
    breaker is open, the backlog is paused. An outage that begins within `start_seconds`, before any success, is one of
    a stack that starts.
    """

    def __init__(
        self,
        *,
        key: Key,
        failures_to_open: int,
        store: SessionStore,
        backlog: Backlog,
        observer: BreakerObserver,
        run: int,
        randomness: Callable[[int], bytes],
        start_seconds: float = 0.0,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._key = key
        self._failures_to_open = failures_to_open
        self._store = store
        self._backlog = backlog
        self._observer = observer
        self._run = run
        self._randomness = randomness
        self._monotonic = monotonic
        self._starting_until = monotonic() + start_seconds
        self._up = True
        self._failures = 0

    async def is_closed(self) -> bool:
        """The state in the shared row. While this is False, nothing may be claimed."""
        row = circuit_breaker.current_run(self._run, await self._store.get(self._key))
        is_open = circuit_breaker.is_open(row)
        self._backlog.pause(is_open)
        self._saw(not is_open)
        return not is_open

    async def may_probe(self) -> bool:
        """Whether this worker is the one to probe now. It then reports the result of the probe with probing=True."""

        def rule(now: float, rows: tuple[Any, ...]) -> Decision[bool]:
            return circuit_breaker.may_probe(now, rows[0], key=self._key, run=self._run)

        return await self._store.transact([self._key], rule)

    async def record(self, results: Sequence[RequestResult], *, probing: bool = False) -> None:
        """Results of requests, in the order in which they ended. They cost at most one write each way."""
        succeeded: list[float] = []
        failed: tuple[float, str] | None = None
        for began, failure in results:
            if failure is None:
                self._failures = 0
                succeeded.append(began)
            else:
                self._failures += 1
                failed = began, failure
        if succeeded:
            self._starting_until = float("-inf")
            await self._write_success(max(succeeded))
        if failed and (probing or self._failures >= self._failures_to_open):
            await self._write_failure(*failed, probing)

    async def record_failure(self, reason: str, began: float, *, probing: bool) -> None:
        """A request that began at `began` got no response, or none that counts."""
        await self.record([RequestResult(began, reason)], probing=probing)

    async def record_success(self, began: float) -> None:
        """A request that began at `began` got a response."""
        await self.record([RequestResult(began)])

    async def _write_failure(self, began: float, reason: str, probing: bool) -> None:
        jitter = self._randomness(1)[0] / 255
        starting = self._monotonic() < self._starting_until

        def rule(now: float, rows: tuple[Any, ...]) -> Decision[bool]:
            return circuit_breaker.record_failure(
                now,
                rows[0],
                key=self._key,
                run=self._run,
                began=began,
                probing=probing,
                jitter=jitter,
                reason=reason,
                starting=starting,
            )

        self._saw(False)
        if await self._store.transact([self._key], rule):
            self._observer.opened(reason, starting)
        await self.is_closed()

    async def _write_success(self, began: float) -> None:
        self._saw(True)
        if not circuit_breaker.is_open(await self._store.get(self._key)):
            return

        def rule(now: float, rows: tuple[Any, ...]) -> Decision[float | None]:
            return circuit_breaker.record_success(now, rows[0], key=self._key, run=self._run, began=began)

        seconds = await self._store.transact([self._key], rule)
        if seconds is not None:
            self._observer.closed(seconds)
        await self.is_closed()

    def _saw(self, up: bool) -> None:
        # Failures counted before a recovery that another worker saw do not count toward the next opening.
        if up and not self._up:
            self._failures = 0
        self._up = up
