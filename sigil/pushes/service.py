"""The service of pushes: it delivers outbox entries to the relay in batches (docs/protocol.md, section 6)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Literal, Protocol

from sigil.core.pushes import delivery as push_delivery
from sigil.core.pushes import outbox as push_outbox
from sigil.core.pushes.delivery import MAX_COMPLETIONS, Completion, DeliveryResult
from sigil.core.pushes.outbox import OUTBOX, Claim, Step, outbox_key
from sigil.core.pushes.subject import PushSubject, current_state, id_of, is_member, is_pending, subject_key
from sigil.core.session_store import Decision, Key, Rule, SessionStore
from sigil.core.tracing import Subject, TracesPort
from sigil.delivery.circuit_breaker import CircuitBreaker
from sigil.protocol.encoding.ids import format_uuid
from sigil.protocol.messages.relay import PushResult, WantedPush
from sigil.pushes.messages import PushMessages, push_key

# Signing a payload takes 50 µs: the event loop serves requests after each group of these.
_SIGNED_AT_ONCE = 20


Creation = tuple[Subject, bytes | None]


class RelayUnavailable(Exception):
    """No response, or none that counts; the message is a short reason for the log."""


class RelayRejected(Exception):
    """The relay rejects this request and would reject a repeat; the message is the reason."""


NoHistoryReason = Literal["unknown", "ambiguous", "untrusted", "older"]


class NoHistory(Exception):
    """The relay answered without a history."""

    def __init__(self, reason: NoHistoryReason) -> None:
        super().__init__(reason)
        self.reason: NoHistoryReason = reason


class Relay(Protocol):
    """Every method raises RelayUnavailable, well within the lease of a claim; `push` and `outcomes` also raise
    RelayRejected.
    """

    async def register(self) -> None: ...

    async def push(self, pushes: Sequence[WantedPush], traceparent: str | None = None) -> list[PushResult]: ...

    async def outcomes(self, push_keys: Sequence[str]) -> list[PushResult]: ...

    async def close(self) -> None: ...


class PushObserver(Protocol):
    def completed(self, completion: Completion) -> None:
        """A push, a poll for an outcome or a clear was completed."""

    def rejected(self, reason: str) -> None:
        """The relay rejects one push, which counts as failed, or one request for outcomes."""


class Pushes:
    """`clock` gives Unix seconds."""

    def __init__(
        self,
        *,
        store: SessionStore,
        relay: Relay,
        messages: PushMessages,
        breaker: CircuitBreaker,
        observer: PushObserver,
        clock: Callable[[], float],
        randomness: Callable[[int], bytes],
        traces: TracesPort | None = None,
    ) -> None:
        self._traces = traces
        self._store = store
        self._relay = relay
        self._messages = messages
        self._breaker = breaker
        self._observer = observer
        self._clock = clock
        self._randomness = randomness

    async def due(self, limit: int) -> list[bytes]:
        """Names of due entries, of all workers."""
        return [key.name for key in await self._store.due(self._clock(), limit, OUTBOX)]

    async def claim(self, names: Sequence[bytes]) -> list[Claim]:
        """Claim those of at most MAX_CLAIMS entries that no other worker holds."""
        if not names:
            return []
        keys, token = [outbox_key(name) for name in names], self._randomness(8)

        def rule(now: float, rows: tuple[Any, ...]) -> Decision[list[Claim]]:
            return push_outbox.claim(now, keys, rows, token)

        return await self._store.transact(keys, rule)

    async def register(self, *, probing: bool = False) -> None:
        """Register this server with the relay."""
        began = self._clock()
        try:
            await self._relay.register()
        except RelayUnavailable as unavailable:
            await self._breaker.record_failure(str(unavailable), began, probing=probing)
        else:
            await self._breaker.record_success(began)

    async def deliver(self, claims: Sequence[Claim], *, probing: bool = False) -> None:
        """Deliver claimed entries and complete them. A probe always sends a request to the relay."""
        polls = [claim for claim in claims if claim[1].step.polls]
        rendered = await self._render([claim for claim in claims if not claim[1].step.polls])
        if rendered:
            results = await self._push([push for _, push, _ in rendered], probing, [about for *_, about in rendered])
            await self._complete([claim for claim, *_ in rendered], results)
        if polls:
            await self._complete(polls, await self._poll(polls, probing))
        if probing and not rendered and not polls:
            await self.register(probing=True)

    async def close(self) -> None:
        await self._relay.close()

    async def _render(self, claims: Sequence[Claim]) -> list[tuple[Claim, WantedPush, Creation]]:
        """The pushes to send. Claims whose challenge or request has ended meanwhile are completed here."""
        rendered, ended = [], []
        rows: dict[Key, PushSubject | None] = {}
        for number, claim in enumerate(claims, 1):
            name, entry = claim
            key = subject_key(name)
            if key not in rows:
                # Members of one request share its row.
                rows[key] = current_state(self._clock(), await self._store.get(key))
            subject = rows[key]
            if subject is None or (entry.step is Step.PUSH and not is_pending(name, subject)):
                ended.append(claim)
            else:
                rendered.append((claim, self._messages.wanted(claim, subject), _creation(claim, subject)))
            if number % _SIGNED_AT_ONCE == 0:
                await asyncio.sleep(0)
        await self._complete(ended, ["ended"] * len(ended))
        return rendered

    async def _push(
        self, pushes: Sequence[WantedPush], probing: bool, creations: Sequence[Creation]
    ) -> list[DeliveryResult]:
        began = self._clock()
        try:
            results = await self._send(pushes, creations)
        except RelayUnavailable as unavailable:
            await self._breaker.record_failure(str(unavailable), began, probing=probing)
            return ["relay_unreachable"] * len(pushes)
        except RelayRejected as rejection:
            await self._breaker.record_success(began)
            # The relay rejects a whole batch because of one push: halving the batch finds it.
            if len(pushes) == 1:
                self._observer.rejected(str(rejection))
                return ["failed"]
            half = len(pushes) // 2
            return [
                *await self._push(pushes[:half], probing, creations[:half]),
                *await self._push(pushes[half:], probing, creations[half:]),
            ]
        await self._breaker.record_success(began)
        return [result.status for result in results]

    async def _send(self, pushes: Sequence[WantedPush], creations: Sequence[Creation]) -> list[PushResult]:
        span = self._traces.send("sigil.push", creations) if self._traces is not None else None
        if span is None:
            return await self._relay.push(pushes)
        # Of a stop during the request: the relay may have taken it, and its span names this one as its parent.
        error: str | None = "cancelled"
        try:
            results = await self._relay.push(pushes, span.header)
            error = None
        except RelayUnavailable:
            error = "relay_unavailable"
            raise
        except RelayRejected:
            error = "relay_rejected"
            raise
        finally:
            span.end(error)
        return results

    async def _poll(self, claims: Sequence[Claim], probing: bool) -> list[DeliveryResult]:
        began = self._clock()
        try:
            results = await self._relay.outcomes([push_key(claim) for claim in claims])
        except RelayUnavailable as unavailable:
            await self._breaker.record_failure(str(unavailable), began, probing=probing)
            return ["relay_unreachable"] * len(claims)
        except RelayRejected as rejection:
            await self._breaker.record_success(began)
            self._observer.rejected(str(rejection))
            return ["queued"] * len(claims)
        await self._breaker.record_success(began)
        return [_outcome(result) for result in results]

    async def _complete(self, claims: Sequence[Claim], results: Sequence[DeliveryResult]) -> None:
        for start in range(0, len(claims), MAX_COMPLETIONS):
            part = slice(start, start + MAX_COMPLETIONS)
            rule = self._completion(claims[part], results[part])
            for completion in await self._store.transact(push_delivery.rows_of(claims[part]), rule):
                self._observer.completed(completion)

    def _completion(self, claims: Sequence[Claim], results: Sequence[DeliveryResult]) -> Rule[list[Completion]]:
        jitter = self._randomness(1)[0] / 255
        return lambda now, rows: push_delivery.complete(now, claims, results, rows, jitter)


def _creation(claim: Claim, subject: PushSubject) -> Creation:
    """A clear belongs to no trace: the prompt that it removes was shown long ago."""
    name, entry = claim
    attribute: Literal["sigil.challenge_id", "sigil.mpa_id"] = (
        "sigil.mpa_id" if is_member(name) else "sigil.challenge_id"
    )
    return Subject(attribute, format_uuid(id_of(name))), None if entry.step is Step.CLEAR else subject.creation


def _outcome(result: PushResult) -> DeliveryResult:
    return "unknown" if (result.status, result.error) == ("failed", "unknown") else result.status
