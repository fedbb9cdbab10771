"""The services on the memory store, with a clock that the test sets."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import msgspec

from sigil.app.state import KINDS
from sigil.approvals.fan_out_worker import FanOutWorker
from sigil.approvals.messages import ApprovalMessages
from sigil.approvals.service import ApprovalPolicy, Approvals
from sigil.attestation.policy import AttestationPolicy
from sigil.attestation.service import Attestation
from sigil.attestation.statements import Anchors
from sigil.attestation.verify import Verifiers
from sigil.challenges.messages import ChallengeMessages
from sigil.challenges.service import ChallengePolicy, Challenges
from sigil.core.approvals.approval import Approval
from sigil.core.challenge import Challenge
from sigil.core.circuit_breaker import RELAY_KEY
from sigil.core.enrolment.attestation import EnrolmentAttestation
from sigil.core.enrolment.row import Enrolment
from sigil.core.pushes.delivery import Completion
from sigil.core.store_capacity import BYTES_PER_END
from sigil.delivery.backlog import Backlog, Events, EventsDisabled, PushBacklog, PushDisabled
from sigil.delivery.circuit_breaker import RELAY_FAILURES_TO_OPEN, CircuitBreaker
from sigil.device import Device
from sigil.enrolment.messages import EnrolmentMessages
from sigil.enrolment.service import EnrolmentPolicy, Enrolments
from sigil.inbox import Inbox
from sigil.protocol.action import Action
from sigil.protocol.api_key import Caller
from sigil.protocol.encoding.canonical import canonical
from sigil.protocol.encoding.text import decode_base64, encode_base64, format_time
from sigil.protocol.identity import DerivedSecrets, ServerIdentity
from sigil.protocol.messages import approvals as mpa
from sigil.protocol.messages import challenges as messages
from sigil.protocol.messages.base import Decision, Reason
from sigil.protocol.messages.relay import PushResult, WantedPush
from sigil.pushes.messages import Content, PushMessages
from sigil.pushes.service import Pushes, RelayRejected, RelayUnavailable
from sigil.sessions.capacity import MAX_ENROLMENTS_PER_OWNER, MAX_PENDING_PER_OWNER, STORE_BYTES_PER_EVENT, Capacity
from sigil.sessions.device_refs import DeviceResolver
from sigil.sessions.expiry import ExpirySweeper
from sigil.sessions.idempotency import Idempotency
from sigil.sessions.long_polls import LongPolls
from sigil.sessions.notifier import SessionNotifier
from sigil.sessions.runtime import SessionRuntime
from sigil.store.memory import MemoryStore
from sigil.store.steady_clock import LocalOffset, SteadyClock

SECRETS = DerivedSecrets(*(bytes([n]) * 32 for n in (1, 2, 3, 4, 5, 6)))
IDENTITY = ServerIdentity.from_secrets(SECRETS)
DEVICES = DeviceResolver(IDENTITY)
CHALLENGE_MESSAGES, APPROVAL_MESSAGES = ChallengeMessages(IDENTITY), ApprovalMessages(IDENTITY)
START = 1_777_026_735.5
ACTION = Action("login", "Sign in to Example")
ACTION_JCS = canonical({"type": ACTION.type, "description": ACTION.description})
CALLER, OTHER_CALLER = Caller(b"a" * 16), Caller(b"b" * 16)


class Clock:
    """The time of day. `now` moves with the time that passes; a step sets the time of day and nothing else."""

    def __init__(self) -> None:
        self.now = START
        self.stepped = 0.0

    def __call__(self) -> float:
        return self.now + self.stepped

    def boot(self) -> float:
        return self.now - START + 1000

    def step(self, seconds: float) -> None:
        self.stepped += seconds


@dataclass
class Services:
    """The services, their parts, and the events that they reported."""

    policy: ChallengePolicy = field(default_factory=ChallengePolicy)
    exclude_requester: bool = False
    size: int = 1 << 20
    randomness: Callable[[int], bytes] = os.urandom
    bytes_per_end: int = BYTES_PER_END
    bytes_per_event: int = STORE_BYTES_PER_EVENT
    max_pending: int = MAX_PENDING_PER_OWNER
    share: int = 100
    max_enrolments: int = MAX_ENROLMENTS_PER_OWNER
    enrolment_policy: EnrolmentPolicy = field(
        default_factory=lambda: EnrolmentPolicy(public_url="https://auth.example.com")
    )
    revoked: frozenset[str] = frozenset()
    attestation: EnrolmentAttestation | None = None
    accepted: AttestationPolicy = field(default_factory=AttestationPolicy)
    verifiers: Verifiers = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.clock = Clock()
        self.events: list[str] = []
        self.steady = SteadyClock(LocalOffset(), wall=self.clock, boot=self.clock.boot)
        self.store = self._make_store()
        self.long_polls = LongPolls(share=self.share)
        self.backlog = self._make_push_backlog()
        self.event_backlog = self._make_event_backlog()
        self.capacity = Capacity(
            store=self.store,
            events_enabled=self.event_backlog.enabled,
            clock=self.store.now,
            bytes_per_end=self.bytes_per_end,
            bytes_per_event=self.bytes_per_event,
            max_pending=self.max_pending,
            max_enrolments=self.max_enrolments,
            share=self.share,
        )
        self.fan_outs = FanOutWorker(store=self.store, push_backlog=self.backlog, clock=self.store.now)
        notifier = SessionNotifier(
            observer=self, push_backlog=self.backlog, event_backlog=self.event_backlog, fan_outs=self.fan_outs
        )
        runtime = SessionRuntime(
            store=self.store,
            devices=DeviceResolver(IDENTITY, self.revoked, self.enrolment_policy.public_url),
            capacity=self.capacity,
            long_polls=self.long_polls,
            notifier=notifier,
            time_of_day=self.clock,
            randomness=self.randomness,
        )
        self.credentials = Attestation(
            IDENTITY,
            self.accepted,
            verifiers=self.verifiers,
            anchors=Anchors(),
            clock=self.clock,
            randomness=self.randomness,
        )
        self.challenges = Challenges(
            runtime, messages=CHALLENGE_MESSAGES, policy=self.policy, attestation=self.credentials
        )
        self.approvals = Approvals(
            runtime,
            messages=APPROVAL_MESSAGES,
            policy=ApprovalPolicy(self.policy.limits, self.exclude_requester, self.policy.respond_to),
            attestation=self.credentials,
        )
        self.enrolments = Enrolments(
            runtime,
            messages=EnrolmentMessages(IDENTITY),
            policy=self.enrolment_policy,
            attestation=self.attestation or self.credentials,
        )
        self.inbox = Inbox(
            runtime, server_id=IDENTITY.server_id, challenges=CHALLENGE_MESSAGES, approvals=APPROVAL_MESSAGES
        )
        self.sweeper = ExpirySweeper(self.store, notifier)

    def _make_store(self) -> Any:
        return MemoryStore(kinds=KINDS, clock=self.steady, size=self.size)

    def _make_push_backlog(self) -> PushBacklog:
        return PushDisabled()

    def _make_event_backlog(self) -> Events:
        return EventsDisabled()

    def challenge(self, event: str, _challenge_id: bytes, _challenge: Challenge) -> None:
        self.events.append(event)

    def approval(self, event: str, _mpa_id: bytes, _approval: Approval, _device: bytes | None = None) -> None:
        self.events.append(event)

    def enrolment(self, event: str, _enrolment_id: bytes, _enrolment: Enrolment) -> None:
        self.events.append(event)

    async def create_challenge(
        self,
        device: Device,
        caller: Caller = CALLER,
        *,
        seconds: int = 300,
        key: str = "",
        body: bytes = b"body",
        matching: bool = False,
    ) -> messages.ChallengeCreated:
        wanted = messages.CreateChallenge(device.wire_key, ACTION, None, seconds, matching)
        created, _ = await self.challenges.issue(caller, wanted, Idempotency(key, body) if key else None)
        return created

    async def approve(
        self,
        device: Device,
        created: messages.ChallengeCreated,
        code: str | None = None,
        credential: str | None = None,
    ) -> messages.Responded:
        bound = decode_base64(created.challenge_bytes, "")
        signature = encode_base64(device.sign_approval(bound, ACTION_JCS, code))
        given = messages.Respond(
            created.challenge_id,
            signature,
            fingerprint=device.fingerprint,
            match_code=code,
            device_credential=credential,
        )
        return await self.challenges.answer(given)

    async def reject(
        self, device: Device, created: messages.ChallengeCreated, reason: Reason | None = None
    ) -> messages.Responded:
        signature = encode_base64(device.sign_rejection(decode_base64(created.challenge_bytes, ""), ACTION_JCS))
        given = messages.Respond(
            created.challenge_id, signature, fingerprint=device.fingerprint, decision="rejected", reason=reason
        )
        return await self.challenges.answer(given)

    async def create_approval(
        self,
        groups: Sequence[Sequence[Device]],
        required: int,
        caller: Caller = CALLER,
        *,
        name: str | None = None,
        body: bytes = b"body",
        policy: mpa.RejectPolicy | None = None,
        seconds: int = 300,
        action: Action = ACTION,
    ) -> mpa.MpaCreated:
        """Create an approval request; the same name and body return the same request."""
        wanted = mpa.CreateMpa(
            action,
            required,
            [mpa.WantedGroup([mpa.WantedMember(device.wire_key) for device in group]) for group in groups],
            name,
            policy,
            seconds,
        )
        created, _ = await self.approvals.request(caller, wanted, body)
        return created

    async def vote(
        self,
        device: Device,
        created: mpa.MpaCreated,
        decision: Decision = "approved",
        *,
        reason: Reason | None = None,
        signed: Decision | None = None,
        credential: str | None = None,
    ) -> mpa.MpaResponded:
        """A member's vote. `signed` is the decision in the signed bytes, where it differs from the one in the body."""
        context = (await self.approval_status(created)).action_context
        return await self.vote_on(
            device, created, context, decision, reason=reason, signed=signed, credential=credential
        )

    async def vote_on(
        self,
        device: Device,
        created: mpa.MpaCreated,
        context: msgspec.Raw,
        decision: Decision = "approved",
        *,
        reason: Reason | None = None,
        signed: Decision | None = None,
        credential: str | None = None,
    ) -> mpa.MpaResponded:
        """The same with the action_context of the request."""
        signature = device.sign_vote(msgspec.json.decode(context), signed or decision)
        body = device.vote_body(created.mpa_id, decision, signature, reason=reason)
        return await self.approvals.answer(mpa.RespondMpa(**body, device_credential=credential))

    async def approval_status(self, created: mpa.MpaCreated, caller: Caller = CALLER) -> mpa.MpaStatus:
        return as_status(await self.approvals.status(caller, created.request_id))

    async def pending_list(self, device: Device) -> messages.PendingList:
        at = int(self.clock())
        body = device.pending_body(IDENTITY.server_id, at)
        assert body["timestamp"] == format_time(at)
        return await self.inbox.pending(messages.Pending(**body))

    async def pending_ids(self, device: Device) -> list[str]:
        return [payload.challenge_id for payload in (await self.pending_list(device)).challenges]

    async def sweep(self) -> None:
        while await self.sweeper.sweep():
            pass
        await self.fan_outs.run_pending()


def as_status(body: msgspec.Raw) -> mpa.MpaStatus:
    return msgspec.json.decode(body, type=mpa.MpaStatus)


@asynccontextmanager
async def all_reads_before_any_transaction(store: MemoryStore, callers: int) -> AsyncIterator[None]:
    """Simulates many workers: every caller reads before the first transaction runs, so that all reads are stale."""
    transact, barrier = store.transact, asyncio.Barrier(callers)

    async def wait_for_all_callers(*given: Any, **options: Any) -> Any:
        await asyncio.wait_for(barrier.wait(), 60)
        return await transact(*given, **options)

    store.transact = wait_for_all_callers  # type: ignore[method-assign]
    yield
    store.transact = transact  # type: ignore[method-assign]


class FakeRelay:
    """A relay that remembers results by push_key, as the real one does. `status` is the result of a new push."""

    def __init__(self) -> None:
        self.status: str = "delivered"
        self.unreachable = False
        self.rejected_keys: set[str] = set()
        self.pushes: list[WantedPush] = []
        self.polled_keys: list[str] = []
        self.results: dict[str, PushResult] = {}

    async def register(self) -> None:
        self._check_reachable()

    async def push(self, pushes: Sequence[WantedPush], traceparent: str | None = None) -> list[PushResult]:
        self._check_reachable()
        if any(push.push_key in self.rejected_keys for push in pushes):
            raise RelayRejected("400")
        self.pushes += pushes
        return [self._accept(push) for push in pushes]

    def _accept(self, push: WantedPush) -> PushResult:
        result = self.results.get(push.push_key) or PushResult(push.fingerprint, self.status)  # type: ignore[arg-type]
        if result.status in {"queued", "delivered"}:
            self.results[push.push_key] = result
        return result

    async def outcomes(self, push_keys: Sequence[str]) -> list[PushResult]:
        self._check_reachable()
        self.polled_keys += push_keys
        return [self.results.get(key, PushResult("", "failed", error="unknown")) for key in push_keys]

    async def close(self) -> None: ...

    def _check_reachable(self) -> None:
        if self.unreachable:
            raise RelayUnavailable("unreachable")

    def keys(self) -> list[str]:
        return [push.push_key for push in self.pushes]


@dataclass
class PushServices(Services):
    """The same with push. `send_due_pushes` is one pass of a worker over the outbox."""

    content: Content = "full"

    def _make_push_backlog(self) -> PushBacklog:
        self.relay, self.observer = FakeRelay(), RecordingPushObserver()
        self.worker_backlog = Backlog()
        self.pushes = self.another_worker()
        return self.worker_backlog

    def another_worker(self) -> Pushes:
        breaker = CircuitBreaker(
            key=RELAY_KEY,
            failures_to_open=RELAY_FAILURES_TO_OPEN,
            store=self.store,
            backlog=self.worker_backlog,
            observer=self.observer,
            run=1,
            randomness=os.urandom,
        )
        return Pushes(
            store=self.store,
            relay=self.relay,
            messages=PushMessages(CHALLENGE_MESSAGES, APPROVAL_MESSAGES, IDENTITY.server_id, self.content),
            breaker=breaker,
            observer=self.observer,
            clock=self.store.now,
            randomness=os.urandom,
        )

    async def send_due_pushes(self) -> None:
        names = dict.fromkeys([*self.worker_backlog.take(100), *await self.pushes.due(100)])
        await self.pushes.deliver(await self.pushes.claim(list(names)))

    async def push_status(self, created: messages.ChallengeCreated) -> tuple[str, str | None]:
        push = (await self.challenges.status(CALLER, created.challenge_id)).push
        return push.status, push.error


class RecordingPushObserver:
    def __init__(self) -> None:
        self.completions: list[Completion] = []
        self.reports: list[str] = []

    def completed(self, completion: Completion) -> None:
        self.completions.append(completion)

    def rejected(self, reason: str) -> None:
        self.reports.append(f"rejected {reason}")

    def opened(self, reason: str, starting: bool) -> None:
        self.reports.append(f"opened {reason}")

    def closed(self, seconds: float) -> None:
        self.reports.append(f"closed {seconds}")
