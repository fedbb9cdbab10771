"""Challenges and webhooks over the memory store, with a receiver that answers as a test tells it to."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from sigil.core.webhook_delivery import FAILURE, AttemptResult, Completion
from sigil.core.webhook_event import EVENT
from sigil.delivery.backlog import Backlog
from sigil.delivery.receiver_watch import ReceiverWatch
from sigil.delivery.undelivered import EventBacklog, Events
from sigil.webhooks.service import Webhooks
from tests.support.services import Services

SCHEDULE = (1, 5, 30)


class ScriptedReceiver:
    """`sigil.webhooks.Receiver`. `says` is its answer, `chokes_on` are ids that it answers with 500."""

    def __init__(self) -> None:
        self.says = AttemptResult(200)
        self.chokes_on: set[str] = set()
        self.got: list[tuple[str, bytes]] = []

    async def post(self, event: str, body: bytes) -> AttemptResult:
        self.got.append((event, body))
        return AttemptResult(500) if event in self.chokes_on else self.says

    async def close(self) -> None: ...

    def ids(self) -> list[str]:
        return [event for event, _ in self.got]


@dataclass
class WebhookNews:
    told: list[Completion] = field(default_factory=list)
    outages: list[str] = field(default_factory=list)

    def done(self, done: Completion) -> None:
        self.told.append(done)

    def opened(self, reason: str) -> None:
        self.outages.append(f"lost {reason}")

    def closed(self, seconds: float) -> None:
        self.outages.append("found")

    def set_up(self, up: bool) -> None: ...


class HostWorker:
    """One of the workers of a host, which share a store and a clock."""

    def __init__(self, desk: WebhookDesk, run: int = 1, outgoing: Backlog | None = None) -> None:
        self.outgoing = Backlog() if outgoing is None else outgoing
        self.watch = ReceiverWatch(
            store=desk.store, outgoing=self.outgoing, news=desk.news, run=run, randomness=os.urandom
        )
        self.webhooks = Webhooks(
            store=desk.store,
            receiver=desk.receiver,
            watch=self.watch,
            news=desk.news,
            schedule=SCHEDULE,
            clock=desk.clock,
            randomness=os.urandom,
        )

    async def tell(self, most: int = 100) -> None:
        """A turn: nothing while the receiver is away, else all that is due or its own."""
        if not await self.watch.is_closed():
            return
        names = dict.fromkeys([*self.outgoing.take(most), *await self.webhooks.due(most)])
        for claim in await self.webhooks.claim(list(names)[:most]):
            attempt = await self.webhooks.attempt(claim)
            assert attempt is not None
            await self.webhooks.complete([attempt])

    async def probe(self) -> bool:
        """Whether it had the probe."""
        names = await self.webhooks.due(1)
        if not names or not await self.watch.may_probe():
            return False
        for claim in await self.webhooks.claim(names):
            attempt = await self.webhooks.attempt(claim)
            assert attempt is not None
            await self.webhooks.complete([attempt], probing=True)
        return True


@dataclass
class WebhookDesk(Services):
    def __post_init__(self) -> None:
        self.receiver, self.news = ScriptedReceiver(), WebhookNews()
        super().__post_init__()
        self.worker = HostWorker(self, outgoing=self.worker_backlog)

    def _make_event_backlog(self) -> Events:
        self.worker_backlog = Backlog()
        return EventBacklog(self.worker_backlog)

    @property
    def waiting(self) -> int:
        return self.store.count(EVENT)

    @property
    def failed(self) -> int:
        return self.store.count(FAILURE)
