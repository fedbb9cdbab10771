"""Challenges and webhooks over the memory store, with a receiver whose responses a test sets."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from sigil.core.circuit_breaker import RECEIVER_KEY
from sigil.core.webhooks.delivery import FAILURE, MAX_FAILURES, AttemptResult, Completion
from sigil.core.webhooks.event import EVENT
from sigil.delivery.backlog import Backlog, EventBacklog, Events
from sigil.delivery.circuit_breaker import RECEIVER_FAILURES_TO_OPEN, CircuitBreaker
from sigil.webhooks.service import Webhooks
from tests.support.services import Services

SCHEDULE = (1, 5, 30)


class ScriptedReceiver:
    """`sigil.webhooks.service.WebhookSender`. `result` is that of every attempt, 500 for the ids in `fails_on`."""

    def __init__(self) -> None:
        self.result = AttemptResult(200)
        self.fails_on: set[str] = set()
        self.got: list[tuple[str, bytes]] = []

    async def post(self, event: str, body: bytes, traceparent: str | None = None) -> AttemptResult:
        self.got.append((event, body))
        return AttemptResult(500) if event in self.fails_on else self.result

    async def close(self) -> None: ...

    def ids(self) -> list[str]:
        return [event for event, _ in self.got]


@dataclass
class RecordingWebhookObserver:
    completions: list[Completion] = field(default_factory=list)
    reports: list[str] = field(default_factory=list)

    def completed(self, completion: Completion) -> None:
        self.completions.append(completion)

    def opened(self, reason: str, starting: bool) -> None:
        self.reports.append(f"opened {reason}")

    def closed(self, seconds: float) -> None:
        self.reports.append("closed")


class HostWorker:
    """One of the workers of a host, which share a store and a clock."""

    def __init__(
        self,
        services: WebhookServices,
        run: int = 1,
        backlog: Backlog | None = None,
        max_failures: int = MAX_FAILURES,
    ) -> None:
        self.backlog = Backlog() if backlog is None else backlog
        self.breaker = CircuitBreaker(
            key=RECEIVER_KEY,
            failures_to_open=RECEIVER_FAILURES_TO_OPEN,
            store=services.store,
            backlog=self.backlog,
            observer=services.observer,
            run=run,
            randomness=os.urandom,
        )
        self.webhooks = Webhooks(
            store=services.store,
            sender=services.receiver,
            breaker=self.breaker,
            observer=services.observer,
            schedule=SCHEDULE,
            clock=services.store.now,
            randomness=os.urandom,
            max_failures=max_failures,
        )

    async def deliver(self, limit: int = 100) -> None:
        """An iteration: nothing while the breaker is open, else the backlog and all due events."""
        if not await self.breaker.is_closed():
            return
        names = dict.fromkeys([*self.backlog.take(limit), *await self.webhooks.due(limit)])
        for claim in await self.webhooks.claim(list(names)[:limit]):
            attempt = await self.webhooks.attempt(claim)
            assert attempt is not None
            await self.webhooks.complete([attempt])

    async def probe(self) -> bool:
        """Whether it had the probe."""
        names = await self.webhooks.due(1)
        if not names or not await self.breaker.may_probe():
            return False
        for claim in await self.webhooks.claim(names):
            attempt = await self.webhooks.attempt(claim)
            assert attempt is not None
            await self.webhooks.complete([attempt], probing=True)
        return True


@dataclass
class WebhookServices(Services):
    def __post_init__(self) -> None:
        self.receiver, self.observer = ScriptedReceiver(), RecordingWebhookObserver()
        super().__post_init__()
        self.worker = HostWorker(self, backlog=self.worker_backlog)

    def _make_event_backlog(self) -> Events:
        self.worker_backlog = Backlog()
        return EventBacklog(self.worker_backlog)

    @property
    def events_stored(self) -> int:
        return self.store.count(EVENT)

    @property
    def failures_stored(self) -> int:
        return self.store.count(FAILURE)
