"""An event from its transaction to the receiver: claimed, signed, posted and completed."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvloop

from bench.measuring import Measure
from bench.store_tasks import open_store
from loadtest.receiver import receiver
from sigil.core.challenge import Challenge, End, State, event_of
from sigil.core.circuit_breaker import RECEIVER_KEY
from sigil.core.session_store import Decision, SessionStore
from sigil.core.webhooks.delivery import Completion
from sigil.core.webhooks.event import EVENT
from sigil.delivery.backlog import Backlog
from sigil.delivery.circuit_breaker import RECEIVER_FAILURES_TO_OPEN, CircuitBreaker
from sigil.protocol.encoding.ids import uuid4_bytes
from sigil.serving.settings import Secret
from sigil.webhooks.loop import WebhookLoop
from sigil.webhooks.sender import HttpWebhookSender
from sigil.webhooks.service import Webhooks

_EVENTS = 100


class _NullObserver:
    def completed(self, completion: Completion) -> None: ...

    def opened(self, reason: str, starting: bool) -> None: ...

    def closed(self, seconds: float) -> None: ...


class Worker:
    """The webhook loop of a worker: `enter` writes events, `deliver` runs until all are delivered."""

    def __init__(self, store: SessionStore, url: str) -> None:
        self._store, self._backlog, observer = store, Backlog(), _NullObserver()
        breaker = CircuitBreaker(
            key=RECEIVER_KEY,
            failures_to_open=RECEIVER_FAILURES_TO_OPEN,
            store=store,
            backlog=self._backlog,
            observer=observer,
            run=1,
            randomness=os.urandom,
        )
        webhooks = Webhooks(
            store=store,
            sender=HttpWebhookSender(url, [Secret("s" * 40)], clock=time.time, user_agent="sigil"),
            breaker=breaker,
            observer=observer,
            schedule=(1,),
            clock=time.time,
            randomness=os.urandom,
        )
        self._webhook_loop = WebhookLoop(webhooks=webhooks, backlog=self._backlog, breaker=breaker, jitter=lambda: 0.5)
        self._loop = uvloop.new_event_loop()

    def enter(self) -> None:
        self._loop.run_until_complete(self._enter())

    async def _enter(self) -> None:
        for _ in range(_EVENTS):
            name, now = uuid4_bytes(os.urandom(16)), time.time()
            row = Challenge(
                os.urandom(33), b"o" * 16, b"", b'{"type":"login"}', 0, 300, end=End(State.VERIFIED, int(now))
            )
            write = event_of(now, name, row)
            await self._store.transact([], lambda _now, _rows, write=write: Decision(None, (write,)))
            self._backlog.add(name)

    def deliver(self) -> None:
        self._loop.run_until_complete(self._deliver())

    async def _deliver(self) -> None:
        while self._store.count(EVENT):
            if len(self._backlog):
                await self._webhook_loop.turn()
            await asyncio.sleep(0.0005)

    def close(self) -> None:
        self._loop.run_until_complete(self._webhook_loop.stop())
        self._loop.close()


@pytest.fixture
def worker(memory_directory: Path) -> Iterator[Worker]:
    store = open_store(memory_directory)
    with receiver() as receiving:
        worker = Worker(store, receiving.url)
        yield worker
        worker.close()
    store.close()


def test_webhook_event_delivered(measure: Measure, worker: Worker) -> None:
    worker.enter()
    worker.deliver()
    measure(worker.deliver, operations=_EVENTS, rounds=60, prepare=worker.enter)
