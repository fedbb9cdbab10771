"""An event from its transaction to its receiver: claimed, signed, posted and completed."""

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
from sigil.core.session_store import Decision, SessionStore
from sigil.core.webhook_delivery import Completion
from sigil.core.webhook_event import EVENT
from sigil.delivery.backlog import Backlog
from sigil.delivery.receiver_watch import ReceiverWatch
from sigil.protocol.ids import uuid4_bytes
from sigil.serving.settings import Secret
from sigil.webhooks.loop import WebhookLoop
from sigil.webhooks.sender import HttpWebhookSender
from sigil.webhooks.service import Webhooks

_EVENTS = 100


class _Silent:
    def done(self, done: Completion) -> None: ...

    def opened(self, reason: str) -> None: ...

    def closed(self, seconds: float) -> None: ...

    def set_up(self, up: bool) -> None: ...


class Worker:
    """What tells events in a worker: `enter` writes some, `tell` lasts until all are delivered."""

    def __init__(self, store: SessionStore, url: str) -> None:
        self._store, self._outgoing = store, Backlog()
        watch = ReceiverWatch(store=store, outgoing=self._outgoing, news=_Silent(), run=1, randomness=os.urandom)
        webhooks = Webhooks(
            store=store,
            receiver=HttpWebhookSender(url, [Secret("s" * 40)], clock=time.time, user_agent="sigil"),
            watch=watch,
            news=_Silent(),
            schedule=(1,),
            clock=time.time,
            randomness=os.urandom,
        )
        self._turns = WebhookLoop(webhooks=webhooks, outgoing=self._outgoing, watch=watch, jitter=lambda: 0.5)
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
            self._outgoing.enqueued(name)

    def tell(self) -> None:
        self._loop.run_until_complete(self._tell())

    async def _tell(self) -> None:
        while self._store.count(EVENT):
            if len(self._outgoing):
                await self._turns.turn()
            await asyncio.sleep(0.0005)

    def close(self) -> None:
        self._loop.run_until_complete(self._turns.stop())
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
    worker.tell()
    measure(worker.tell, operations=_EVENTS, rounds=60, prepare=worker.enter)
