"""Sends admitted pushes through their transports. Each attempt stores one outcome in the registry."""

from __future__ import annotations

import asyncio
import random
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal, Protocol

from relay.pushes.bulkhead import Bulkhead
from relay.pushes.fair_slots import FairSlots
from relay.registry.model import PROVIDERS, SEEN_EVERY_SECONDS, AttemptOutcome, Device, Platform, Push, RegistryBusy
from relay.registry.port import DeliveryRegistry
from relay.registry.sealing import Sealer, Unsealable
from relay.transports import NOT_CARRIED, Load, Outcome, OutgoingPush, Transport
from sigil.serving import logs

if TYPE_CHECKING:
    from relay.tracing import PushSpan, PushTraces

ATTEMPT_TIMEOUT_SECONDS = 10.0
"""Time-out of one request to the provider."""
DEADLINE_SECONDS = 20.0
"""From the claim of a push to its outcome, including the wait for a slot: well within its lease."""
MAX_FAILURES = 10
"""A token counts as dead after so many refusals in a row that the token may have caused."""
FAILING = "failing"
# Refusals count against a token only if the host of the provider accepted another push within this time. Otherwise the
# relay may be the cause. A time in the future proves nothing: the clock was set back.
_PROVEN_SECONDS = 600.0
_BUSY_SECONDS = 2.0
_MAX_BACKOFF = 60.0
_CLOSE_TIMEOUT_SECONDS = 2.0
_WITHOUT_CLEAR: frozenset[Platform] = frozenset({"webpush"})
_MAX_PROVEN = 1024


class DispatchObserver(Protocol):
    """Receives what the metrics count. Times are seconds."""

    def attempt(self, provider: str, status: str, seconds: float) -> None: ...

    def token_age(self, provider: str, seconds: float) -> None:
        """The age of the registration that a push was sent to."""

    def evicted(self, reason: str, count: int = 1) -> None: ...

    def load(self, provider: str, load: Load, pushes: int) -> None:
        """Connections and streams of this worker to a provider; `pushes` are in flight or queued for a slot."""


class NullObserver:
    """With RELAY_TELEMETRY=none."""

    def attempt(self, provider: str, status: str, seconds: float) -> None: ...

    def token_age(self, provider: str, seconds: float) -> None: ...

    def evicted(self, reason: str, count: int = 1) -> None: ...

    def load(self, provider: str, load: Load, pushes: int) -> None: ...

    def credentials_denied(self, provider: str, denied: bool) -> None: ...


class Dispatch:
    """`transports` by platform; a platform without one is off. `lanes` give the host that a token leads to, for
    platforms with several. `clock` gives Unix seconds."""

    def __init__(
        self,
        *,
        registry: DeliveryRegistry,
        sealer: Sealer,
        transports: Mapping[Platform, Transport],
        clock: Callable[[], float],
        observer: DispatchObserver,
        bulkhead: Callable[[], Bulkhead[AttemptOutcome | None]] = Bulkhead,
        traces: PushTraces | None = None,
        lanes: Mapping[Platform, Callable[[str], str]] | None = None,
    ) -> None:
        self._registry = registry
        self._lanes = lanes or {}
        self._sealer = sealer
        self._transports = transports
        self._bulkheads = {platform: bulkhead() for platform in transports}
        self._clock = clock
        self._observer = observer
        self._traces = traces
        self._accepted_at: OrderedDict[tuple[Platform, str], float] = OrderedDict()

    def open(self) -> None:
        for transport in self._distinct_transports():
            transport.open()

    async def deliver(self, admitted: Sequence[tuple[Push, Device]], seconds: float) -> dict[str, AttemptOutcome]:
        """Start all attempts. Returns the outcomes after at most `seconds`, by push_key; the other attempts continue in
        the background, or are retried when they are due."""
        tasks, decided = self._start(admitted)
        # Reported only if it is stored: another attempt may follow otherwise, with another outcome.
        if decided and not await self._write(decided):
            decided = []
        if tasks:
            done, _ = await asyncio.wait(tasks, timeout=seconds)
            decided += [outcome for task in done if not task.cancelled() and (outcome := task.result()) is not None]
        return {outcome.push_key: outcome for outcome in decided}

    async def retry(self, max_pushes: int) -> bool:
        """Start the attempts that are due, for each provider as many as its bulkhead can take, the servers in turn;
        True when there may be more."""
        more = False
        for platform in PROVIDERS:
            bulkhead = self._bulkheads.get(platform)
            limit = max_pushes if bulkhead is None else min(max_pushes, bulkhead.capacity)
            if limit <= 0:
                continue
            skip = bulkhead.full_servers() if bulkhead is not None else ()
            claimed = await self._registry.claim(platform, self._clock(), limit, skip)
            _, decided = self._start(claimed)
            if decided:
                await self._write(decided)
            # A server with a long queue fills a quarter of a claim at least (`claim_share`).
            more |= 4 * len(claimed) >= limit
        return more

    def report_load(self) -> None:
        for platform, bulkhead in self._bulkheads.items():
            self._observer.load(platform, self._transports[platform].load(), len(bulkhead))

    async def close(self) -> None:
        """Attempts in flight have two seconds to end. The others are cancelled, and their leases expire."""
        await asyncio.gather(*(bulkhead.close(_CLOSE_TIMEOUT_SECONDS) for bulkhead in self._bulkheads.values()))
        for transport in self._distinct_transports():
            await transport.close()

    def _distinct_transports(self) -> list[Transport]:
        return list({id(transport): transport for transport in self._transports.values()}.values())

    def _start(
        self, claimed: Sequence[tuple[Push, Device]]
    ) -> tuple[list[asyncio.Task[AttemptOutcome | None]], list[AttemptOutcome]]:
        """Tasks, and outcomes without one: a platform that is off fails, a full bulkhead is retried later."""
        tasks: list[asyncio.Task[AttemptOutcome | None]] = []
        decided: list[AttemptOutcome] = []
        for push, device in claimed:
            bulkhead = self._bulkheads.get(push.platform)
            never = self._never_sent(push)
            if bulkhead is None or never is not None:
                decided.append(self._attempt_outcome(push, Outcome("refused", never)))
                if (span := self._span(push)) is not None:
                    span.end("failed", never)
                continue
            lane = self._lane(push, device)
            if bulkhead.capacity_of(push.server_id, lane) > 0:
                tasks.append(bulkhead.start(push.server_id, self._attempt(push, device, bulkhead, lane), lane))
            else:
                # The registry does not know lanes: what waits for a slow host is claimed again, less and less often.
                wait = _BUSY_SECONDS if not lane else min(max(_BUSY_SECONDS, 2.0**push.attempts), _MAX_BACKOFF)
                due = min(self._clock() + wait, push.push.expires_at)
                decided.append(AttemptOutcome(push.server_id, push.push.push_key, "queued", "provider_busy", due))
        return tasks, decided

    def _never_sent(self, push: Push) -> str | None:
        """Why no attempt is made."""
        if push.platform not in self._transports:
            return "provider_off"
        return NOT_CARRIED if push.push.exempt and push.platform in _WITHOUT_CLEAR else None

    def _lane(self, push: Push, device: Device) -> str:
        lane = self._lanes.get(push.platform)
        if lane is None:
            return ""
        try:
            return lane(self._token(device))
        except Unsealable:
            # The attempt reports it.
            return ""

    def _span(self, push: Push) -> PushSpan | None:
        return None if self._traces is None else self._traces.process(push.push, push.platform, push.attempts + 1)

    async def _attempt(
        self, push: Push, device: Device, bulkhead: Bulkhead[AttemptOutcome | None], lane: str
    ) -> AttemptOutcome | None:
        span = self._span(push)
        if span is None:
            return await self._attempt_within(None, push, device, bulkhead, lane)
        try:
            return await self._attempt_within(span, push, device, bulkhead, lane)
        finally:
            # Of a cancelled attempt. After the result it has no effect.
            span.end("queued", "cancelled")

    async def _attempt_within(
        self,
        span: PushSpan | None,
        push: Push,
        device: Device,
        bulkhead: Bulkhead[AttemptOutcome | None],
        lane: str,
    ) -> AttemptOutcome | None:
        started_at = self._clock()
        outcome = await self._send_in_time(push, device, bulkhead.slots(lane), span)
        if outcome.since is not None and outcome.since < device.registered_at:
            # The token died before this registration: the provider reports an earlier use of the same token.
            outcome = Outcome("refused", outcome.error, counts_against_token=True)
        seconds = self._clock() - started_at
        result = await self._conclude(push, device, outcome, lane)
        if span is not None:
            span.end(result.status, result.error or "registration_changed")
        self._observer.attempt(push.platform, result.status, seconds)
        self._observer.token_age(push.platform, started_at - device.registered_at)
        return result if await self._write([result]) else None

    async def _conclude(self, push: Push, device: Device, outcome: Outcome, lane: str) -> AttemptOutcome:
        """The result of the push, after the token was updated."""
        try:
            if await self._update_token(push.platform, lane, device, outcome):
                return self._attempt_outcome(push, outcome)
        except RegistryBusy:
            # A dead token is reported again at the next attempt, and is not evicted until then.
            return self._attempt_outcome(push, Outcome("retry", outcome.error) if outcome.kind == "gone" else outcome)
        return AttemptOutcome(push.server_id, push.push.push_key, "queued", outcome.error)

    async def _write(self, outcomes: list[AttemptOutcome]) -> bool:
        """False when the registry is unreachable: the leases expire, and the pushes are sent again rather than lost."""
        try:
            await self._registry.record_outcomes(outcomes, self._clock())
        except RegistryBusy:
            return False
        return True

    async def _send_in_time(self, push: Push, device: Device, slots: FairSlots, span: PushSpan | None) -> Outcome:
        """Always one outcome, before the push and its lease expire."""
        left = min(DEADLINE_SECONDS, push.push.expires_at - self._clock())
        try:
            async with (
                asyncio.timeout(left),
                slots.of(push.server_id),
                asyncio.timeout(ATTEMPT_TIMEOUT_SECONDS),
            ):
                return await self._send(push, device, span)
        except TimeoutError:
            return Outcome("retry", "timeout")
        except Unsealable as error:
            logs.error(
                "token_cannot_be_opened", exc=error, message="TOKEN_ENCRYPTION_KEY is not the one that sealed it"
            )
            return Outcome("refused", "sealed_with_another_key")
        except Exception as error:
            logs.error("push_attempt_failed", exc=error, provider=push.platform)
            return Outcome("retry", "internal")

    async def _send(self, push: Push, device: Device, span: PushSpan | None) -> Outcome:
        return await self._transports[push.platform].send(self._outgoing(push, device, span))

    async def _update_token(self, platform: Platform, lane: str, device: Device, outcome: Outcome) -> bool:
        """Store what an outcome reveals about the token. False when the device has another token by now, or is gone:
        the push is due at once, and the next claim reads the device again."""
        now = self._clock()
        if outcome.kind == "delivered":
            self._prove(platform, lane, now)
            if device.failures or now - device.seen_at >= SEEN_EVERY_SECONDS:
                await self._registry.mark_seen(device.fingerprint, int(now))
        elif outcome.kind == "gone":
            return await self._evict(platform, device, outcome.error or "gone")
        elif outcome.counts_against_token and self._is_proven(platform, lane, now):
            failures = await self._registry.record_failure(device.fingerprint, device.token)
            if failures >= MAX_FAILURES:
                await self._evict(platform, device, FAILING)
            return failures > 0
        return True

    def _prove(self, platform: Platform, lane: str, now: float) -> None:
        self._accepted_at[platform, lane] = now
        self._accepted_at.move_to_end((platform, lane))
        if len(self._accepted_at) > _MAX_PROVEN:
            self._accepted_at.popitem(last=False)

    def _is_proven(self, platform: Platform, lane: str, now: float) -> bool:
        return 0 <= now - self._accepted_at.get((platform, lane), float("-inf")) < _PROVEN_SECONDS

    async def _evict(self, platform: Platform, device: Device, reason: str) -> bool:
        evicted = await self._registry.evict(device.fingerprint, reason, device.token, int(self._clock()))
        if evicted:
            self._observer.evicted(reason)
            logs.info(
                "token_evicted", provider=platform, fingerprint=logs.short(device.fingerprint.hex()), reason=reason
            )
        return evicted

    def _outgoing(self, push: Push, device: Device, span: PushSpan | None) -> OutgoingPush:
        new = push.push
        return OutgoingPush(
            push_id=new.push_id.hex(),
            fingerprint=device.fingerprint.hex(),
            token=self._token(device),
            payload=self._sealer.open("payload", device.fingerprint, "", new.payload),
            expires_at=new.expires_at,
            collapse_id=new.collapse_id,
            priority=new.priority,
            spans=span,
        )

    def _token(self, device: Device) -> str:
        """Unsealable."""
        return self._sealer.open("token", device.fingerprint, device.platform, device.token).decode()

    def _attempt_outcome(self, push: Push, outcome: Outcome) -> AttemptOutcome:
        name = (push.server_id, push.push.push_key)
        if outcome.kind != "retry":
            return AttemptOutcome(*name, _FINAL[outcome.kind], outcome.error)
        backoff = min(2.0**push.attempts, _MAX_BACKOFF) * random.uniform(0.8, 1.2)  # noqa: S311 - jitter
        due = self._clock() + max(outcome.after, backoff)
        if due >= push.push.expires_at:
            return AttemptOutcome(*name, "failed", outcome.error)
        return AttemptOutcome(*name, "queued", outcome.error, due)


_FINAL: dict[str, Literal["delivered", "token_evicted", "failed"]] = {
    "delivered": "delivered",
    "gone": "token_evicted",
    "refused": "failed",
    "denied": "failed",
}
