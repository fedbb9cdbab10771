"""The service of pushes: what stands in the outbox goes to the relay, a batch at a time (docs/protocol.md, 6)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from sigil.core import push_delivery, push_outbox
from sigil.core.push_delivery import MOST_COMPLETIONS, Completion, DeliveryResult
from sigil.core.push_outbox import OUTBOX, Claim, Step, outbox_key
from sigil.core.push_subject import PushSubject, current_state, is_pending, subject_key
from sigil.core.session_store import Decision, Key, Rule, SessionStore
from sigil.delivery.relay_watch import RelayWatch
from sigil.protocol.relay_messages import PushResult, WantedPush
from sigil.pushes.messages import PushMessages, push_key

# A payload is signed, 50 µs: requests are served in between.
_SIGNED_AT_ONCE = 20


class RelayUnavailable(Exception):
    """No answer, or none that counts; the message says why in a few words, for the log."""


class RelayRejected(Exception):
    """The relay does not take such a request and would not take it again; the message says why."""


class Relay(Protocol):
    """Every method raises RelayAway, within less than the lease of a claim; `push` and `outcomes` also RelayRefuses."""

    async def register(self) -> None: ...

    async def push(self, pushes: Sequence[WantedPush]) -> list[PushResult]: ...

    async def outcomes(self, push_keys: Sequence[str]) -> list[PushResult]: ...

    async def close(self) -> None: ...


class PushObserver(Protocol):
    def done(self, done: Completion) -> None:
        """A push, a question or a clear was seen to."""

    def refused(self, reason: str) -> None:
        """The relay does not take one push as it is; it counts as failed."""


class Pushes:
    """Collaborators: store, relay, messages, the watch over it, who is told, clock (Unix seconds), randomness."""

    def __init__(
        self,
        *,
        store: SessionStore,
        relay: Relay,
        messages: PushMessages,
        watch: RelayWatch,
        news: PushObserver,
        clock: Callable[[], float],
        randomness: Callable[[int], bytes],
    ) -> None:
        self._store = store
        self._relay = relay
        self._messages = messages
        self._watch = watch
        self._news = news
        self._clock = clock
        self._randomness = randomness

    async def due(self, most: int) -> list[bytes]:
        """Names of entries that are due, whoever wrote them."""
        return [key.name for key in await self._store.due(self._clock(), most, OUTBOX)]

    async def claim(self, names: Sequence[bytes]) -> list[Claim]:
        """Take what may be taken of at most MOST_CLAIMS entries."""
        if not names:
            return []
        keys, token = [outbox_key(name) for name in names], self._randomness(8)

        def rule(now: float, rows: tuple[Any, ...]) -> Decision[list[Claim]]:
            return push_outbox.claim(now, keys, rows, token)

        return await self._store.transact(keys, rule)

    async def register(self, *, probing: bool = False) -> None:
        """Make this server known to the relay."""
        began = self._clock()
        try:
            await self._relay.register()
        except RelayUnavailable as away:
            await self._watch.record_failure(str(away), began, probing=probing)
        else:
            await self._watch.record_success(began)

    async def deliver(self, claims: Sequence[Claim], *, probing: bool = False) -> None:
        """See to claims, and write down what became of them. A probe always says something to the relay."""
        asked = [claim for claim in claims if claim[1].step is Step.POLL_OUTCOME]
        letters = await self._render([claim for claim in claims if claim[1].step is not Step.POLL_OUTCOME])
        if letters:
            words = await self._push([push for _, push in letters], probing)
            await self._complete([claim for claim, _ in letters], words)
        if asked:
            await self._complete(asked, await self._ask(asked, probing))
        if probing and not letters and not asked:
            await self.register(probing=True)

    async def close(self) -> None:
        await self._relay.close()

    async def _render(self, claims: Sequence[Claim]) -> list[tuple[Claim, WantedPush]]:
        """What is to be sent of claims; those whose challenge or request ended in the meantime are completed here."""
        letters, over = [], []
        rows: dict[Key, PushSubject | None] = {}
        for number, claim in enumerate(claims, 1):
            name, entry = claim
            key = subject_key(name)
            if key not in rows:
                # Members of one request share its row.
                rows[key] = current_state(self._clock(), await self._store.get(key))
            asked = rows[key]
            if asked is None or (entry.step is Step.PUSH and not is_pending(name, asked)):
                over.append(claim)
            else:
                letters.append((claim, self._messages.wanted(claim, asked)))
            if number % _SIGNED_AT_ONCE == 0:
                await asyncio.sleep(0)
        await self._complete(over, ["over"] * len(over))
        return letters

    async def _push(self, pushes: Sequence[WantedPush], probing: bool) -> list[DeliveryResult]:
        began = self._clock()
        try:
            results = await self._relay.push(pushes)
        except RelayUnavailable as away:
            await self._watch.record_failure(str(away), began, probing=probing)
            return ["relay_unreachable"] * len(pushes)
        except RelayRejected as refusal:
            await self._watch.record_success(began)
            # It refuses all for the sake of one: that one is found by halves.
            if len(pushes) == 1:
                self._news.refused(str(refusal))
                return ["failed"]
            half = len(pushes) // 2
            return [*await self._push(pushes[:half], probing), *await self._push(pushes[half:], probing)]
        await self._watch.record_success(began)
        return [result.status for result in results]

    async def _ask(self, claims: Sequence[Claim], probing: bool) -> list[DeliveryResult]:
        began = self._clock()
        try:
            results = await self._relay.outcomes([push_key(claim) for claim in claims])
        except RelayUnavailable as away:
            await self._watch.record_failure(str(away), began, probing=probing)
            return ["relay_unreachable"] * len(claims)
        except RelayRejected as refusal:
            await self._watch.record_success(began)
            self._news.refused(str(refusal))
            return ["queued"] * len(claims)
        await self._watch.record_success(began)
        return [_outcome(result) for result in results]

    async def _complete(self, claims: Sequence[Claim], words: Sequence[DeliveryResult]) -> None:
        for start in range(0, len(claims), MOST_COMPLETIONS):
            part = slice(start, start + MOST_COMPLETIONS)
            rule = self._completion(claims[part], words[part])
            for done in await self._store.transact(push_delivery.rows_of(claims[part]), rule):
                self._news.done(done)

    def _completion(self, claims: Sequence[Claim], words: Sequence[DeliveryResult]) -> Rule[list[Completion]]:
        jitter = self._randomness(1)[0] / 255
        return lambda now, rows: push_delivery.complete(now, claims, words, rows, jitter)


def _outcome(result: PushResult) -> DeliveryResult:
    return "unknown" if (result.status, result.error) == ("failed", "unknown") else result.status
