"""The service of webhooks: what ended is told to the integrator, a batch at a time (docs/protocol.md, 5.4)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

from sigil.core import webhook_delivery, webhook_event
from sigil.core.session_store import Decision, Key, SessionStore
from sigil.core.webhook_delivery import FAILURE, MOST_FAILURES, AttemptResult, Completion
from sigil.core.webhook_event import EVENT, Claim, event_key
from sigil.delivery.receiver_watch import ReceiverWatch
from sigil.protocol.webhook_event import event_id
from sigil.webhooks import messages

ATTEMPT_SECONDS = 10.0
"""For one attempt with all that belongs to it."""
_FORGOTTEN_AT_ONCE = 200
_END_OF_TIME = 1 << 32


class WebhookSender(Protocol):
    async def post(self, event: str, body: bytes) -> AttemptResult:
        """One attempt to deliver the event with that id, within ATTEMPT_SECONDS; whatever happens is an Answer."""

    async def close(self) -> None: ...


class WebhookObserver(Protocol):
    def done(self, done: Completion) -> None:
        """An attempt was completed: the event is delivered, to be tried again, or given up."""


class Attempt(NamedTuple):
    """One that was made; `began` is a Unix time."""

    claim: Claim
    began: float
    answer: AttemptResult


class Webhooks:
    """Collaborators: store, receiver, the watch over it, who is told, clock (Unix seconds), randomness.

    `schedule`: the seconds from one try to the next.
    """

    def __init__(
        self,
        *,
        store: SessionStore,
        receiver: WebhookSender,
        watch: ReceiverWatch,
        news: WebhookObserver,
        schedule: Sequence[int],
        clock: Callable[[], float],
        randomness: Callable[[int], bytes],
    ) -> None:
        self._store = store
        self._receiver = receiver
        self._watch = watch
        self._news = news
        self._schedule = schedule
        self._clock = clock
        self._randomness = randomness

    async def due(self, most: int) -> list[bytes]:
        """Ids of what ended whose events are due, whoever wrote them."""
        return [key.name for key in await self._store.due(self._clock(), most, EVENT)]

    async def claim(self, names: Sequence[bytes]) -> list[Claim]:
        """Take what may be taken of at most MOST_CLAIMS events. Whoever claims attempts at once."""
        if not names:
            return []
        keys, token = [event_key(name) for name in names], self._randomness(8)

        def rule(now: float, rows: tuple[Any, ...]) -> Decision[list[Claim]]:
            return webhook_event.claim(now, keys, rows, token)

        return await self._store.transact(keys, rule)

    async def attempt(self, claim: Claim) -> Attempt | None:
        """One attempt, None when the claim is so old that the attempt could outlive it."""
        name, event = claim
        began = self._clock()
        # A worker that was stopped for a while: by now another may have the event.
        if began > event.due - ATTEMPT_SECONDS:
            return None
        answer = await self._receiver.post(event_id(name), messages.body(name, event))
        return Attempt(claim, began, answer)

    async def complete(self, attempts: Sequence[Attempt], *, probing: bool = False) -> None:
        """Write down what became of at most MOST_COMPLETIONS attempts."""
        jitters = [byte / 255 for byte in self._randomness(len(attempts))]
        claims, answers = [attempt.claim for attempt in attempts], [attempt.answer for attempt in attempts]

        def rule(now: float, rows: tuple[Any, ...]) -> Decision[list[Completion]]:
            return webhook_delivery.complete(
                now, claims, answers, rows, schedule=self._schedule, jitters=jitters, probing=probing
            )

        for done in await self._store.transact([event_key(name) for name, _ in claims], rule):
            self._news.done(done)
        await self._watch.heard([(attempt.began, attempt.answer) for attempt in attempts], probing=probing)

    async def forget(self) -> None:
        """Failures that are too old, or too many: all of them, a batch at a time."""
        while keys := await self._beyond_bounds():
            await self._store.transact([], _deleting(keys))
            # Thousands may come between two calls: requests are served in between.
            await asyncio.sleep(0)

    async def _beyond_bounds(self) -> list[Key]:
        too_many = min(self._store.count(FAILURE) - MOST_FAILURES, _FORGOTTEN_AT_ONCE)
        keys = await self._store.due(self._clock(), _FORGOTTEN_AT_ONCE, FAILURE)
        return keys if len(keys) >= too_many else await self._store.due(_END_OF_TIME, too_many, FAILURE)

    async def close(self) -> None:
        await self._receiver.close()


def _deleting(keys: Sequence[Key]) -> Callable[[float, tuple[Any, ...]], Decision[None]]:
    return lambda _now, _rows: Decision(None, tuple((key, None) for key in keys))
