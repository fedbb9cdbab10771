"""Builds the services and loops of a worker: the part of the composition root without the HTTP server."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from sigil import __version__
from sigil.android_status.reader import AndroidStatus
from sigil.app.loops import Loops
from sigil.approvals.fan_out_worker import FanOutWorker
from sigil.approvals.messages import ApprovalMessages
from sigil.approvals.service import ApprovalPolicy, Approvals
from sigil.attestation.policy import AttestationPolicy
from sigil.attestation.service import Attestation
from sigil.attestation.statements import Anchors
from sigil.attestation.verify import Verifiers
from sigil.challenges.messages import ChallengeMessages
from sigil.challenges.service import ChallengePolicy, Challenges
from sigil.config.settings import Config
from sigil.config.webhooks import WebhookTarget
from sigil.core.circuit_breaker import RECEIVER_KEY, RELAY_KEY
from sigil.core.device_ledger import Limits
from sigil.core.session_observer import SessionObserver
from sigil.core.session_store import SessionStore
from sigil.core.tracing import TracesPort
from sigil.delivery.backlog import Backlog, EventBacklog, EventsDisabled, PushDisabled
from sigil.delivery.circuit_breaker import (
    RECEIVER_FAILURES_TO_OPEN,
    RELAY_FAILURES_TO_OPEN,
    RELAY_START_SECONDS,
    CircuitBreaker,
)
from sigil.enrolment.messages import EnrolmentMessages
from sigil.enrolment.service import EnrolmentPolicy, Enrolments
from sigil.inbox import Inbox
from sigil.protocol.identity import ServerIdentity
from sigil.pushes.loop import PushLoop
from sigil.pushes.messages import PushMessages
from sigil.pushes.relay_client import OnResponse, RelayClient
from sigil.pushes.service import Pushes
from sigil.serving.process.proc_stats import start_of_master
from sigil.serving.settings import Secret
from sigil.sessions.capacity import Capacity
from sigil.sessions.device_refs import DeviceResolver
from sigil.sessions.expiry import ExpirySweeper
from sigil.sessions.long_polls import LongPolls
from sigil.sessions.notifier import SessionNotifier
from sigil.sessions.runtime import SessionRuntime
from sigil.telemetry import event_log
from sigil.telemetry.null_metrics import NullMetrics
from sigil.telemetry.observers import AttestationTelemetry, PushTelemetry, SessionTelemetry, WebhookTelemetry
from sigil.telemetry.store_watch import StoreWatch
from sigil.webhooks.loop import WebhookLoop
from sigil.webhooks.service import Webhooks

if TYPE_CHECKING:
    from sigil.serving.tracing.tracer import Tracer
    from sigil.telemetry.metrics import Metrics
    from sigil.webhooks.sender import HttpWebhookSender


@dataclass(frozen=True)
class Dependencies:
    """The parts of a worker that tests replace."""

    store: SessionStore
    long_polls: LongPolls
    observer: SessionObserver = field(default_factory=event_log.SessionEventLog)
    time_of_day: Callable[[], float] = time.time
    randomness: Callable[[int], bytes] = os.urandom
    metrics: Metrics | NullMetrics = field(default_factory=NullMetrics)
    saw_relay: OnResponse = lambda ahead, certificate_ends: None
    # None where no traces are exported.
    tracer: Tracer | None = None
    # Identifies one start of the server; the same in all its workers.
    run: int = field(default_factory=start_of_master)

    @property
    def traces(self) -> TracesPort | None:
        """The spans of what no request does."""
        if self.tracer is None:
            return None
        # Imported here: OpenTelemetry loads only where traces are exported.
        from sigil.serving.tracing.messages import MessageTraces

        return MessageTraces(self.tracer)


@dataclass(frozen=True)
class Services:
    """The services that resources call, and the background loops."""

    challenges: Challenges
    approvals: Approvals
    enrolments: Enrolments
    inbox: Inbox
    attestation: Attestation
    loops: Loops


def build_services(config: Config, identity: ServerIdentity, parts: Dependencies) -> Services:
    """All services and loops of one worker."""
    store, clock = parts.store, parts.store.now
    push_backlog = Backlog() if config.relay_url else PushDisabled()
    webhook_backlog = Backlog()
    event_backlog = EventBacklog(webhook_backlog) if config.webhook else EventsDisabled()
    fan_outs = FanOutWorker(store=store, push_backlog=push_backlog, clock=clock)
    notifier = SessionNotifier(
        observer=SessionTelemetry(parts.observer, parts.metrics),
        push_backlog=push_backlog,
        event_backlog=event_backlog,
        fan_outs=fan_outs,
        traces=parts.traces,
    )
    capacity = Capacity(
        store=store,
        events_enabled=event_backlog.enabled,
        clock=clock,
        max_pending=config.max_pending_per_key,
        max_enrolments=config.max_enrolments,
        share=config.key_share,
    )
    runtime = SessionRuntime(
        store=store,
        devices=DeviceResolver(identity, config.revoked_devices, config.public_url),
        capacity=capacity,
        long_polls=parts.long_polls,
        notifier=notifier,
        time_of_day=parts.time_of_day,
        randomness=parts.randomness,
    )
    challenge_messages, approval_messages = ChallengeMessages(identity), ApprovalMessages(identity)
    android_status = None
    if "android-key" in config.attestation.kinds:
        android_status = AndroidStatus(config.android_status.path)
        parts.metrics.android_status(android_status.age)
    attestation = _attestation(config, identity, parts, android_status)
    challenges = Challenges(
        runtime, messages=challenge_messages, policy=_challenge_policy(config), attestation=attestation
    )
    approvals = Approvals(runtime, messages=approval_messages, policy=_approval_policy(config), attestation=attestation)
    enrolments = Enrolments(
        runtime, messages=EnrolmentMessages(identity), policy=_enrolment_policy(config), attestation=attestation
    )
    inbox = Inbox(runtime, server_id=identity.server_id, challenges=challenge_messages, approvals=approval_messages)
    push_loop = None
    if isinstance(push_backlog, Backlog):
        push_messages = PushMessages(challenge_messages, approval_messages, identity.server_id, config.push_content)
        push_loop = _push_loop(config, identity, parts, push_backlog, push_messages)
    loops = Loops(
        store=store,
        store_watch=StoreWatch(capacity.free_and_size),
        sweeper=ExpirySweeper(store, notifier),
        fan_outs=fan_outs,
        long_polls=parts.long_polls,
        push_loop=push_loop,
        webhook_loop=_webhook_loop(config.webhook, parts, webhook_backlog) if config.webhook else None,
        android_status=android_status,
    )
    return Services(challenges, approvals, enrolments, inbox, attestation, loops)


def _attestation(
    config: Config, identity: ServerIdentity, parts: Dependencies, status: AndroidStatus | None
) -> Attestation:
    policy = replace(config.attestation, revoked_devices=config.revoked_devices)
    verifiers, roots = attestation_parts(policy)
    return Attestation(
        identity,
        policy,
        verifiers=verifiers,
        anchors=roots,
        clock=parts.time_of_day,
        randomness=parts.randomness,
        status=status,
        observer=AttestationTelemetry(parts.metrics.attestations() if config.attestation.kinds else None),
    )


def attestation_parts(policy: AttestationPolicy) -> tuple[Verifiers, Anchors]:
    """Nothing where no kind is accepted: a server without attestation saves the verifiers and the roots."""
    if not policy.kinds:
        return {}, Anchors()
    # Imported here, for the same reason.
    from sigil.attestation.certificates.roots import anchors
    from sigil.attestation.verify import verifiers

    return verifiers(), anchors(policy.test_roots)


def _challenge_policy(config: Config) -> ChallengePolicy:
    return ChallengePolicy(
        limits=_limits(config),
        number_matching=config.number_matching,
        respond_to=f"{config.public_url}/respond" if config.public_url else "",
    )


def _approval_policy(config: Config) -> ApprovalPolicy:
    return ApprovalPolicy(
        limits=_limits(config),
        exclude_requester=config.mpa_exclude_requester,
        respond_to=f"{config.public_url}/mpa/respond" if config.public_url else "",
    )


def _enrolment_policy(config: Config) -> EnrolmentPolicy:
    return EnrolmentPolicy(
        server_name=config.server_name,
        public_url=config.public_url,
        web_origin=config.device_app_origin,
        without_code=config.enrol_without_code,
    )


def _limits(config: Config) -> Limits:
    return Limits(config.max_pending_per_device, config.device_rate)


def _push_loop(
    config: Config, identity: ServerIdentity, parts: Dependencies, backlog: Backlog, messages: PushMessages
) -> PushLoop:
    observer = PushTelemetry(parts.metrics.pushes(), config.relay_url or "")
    relay = relay_client(config, identity, parts.time_of_day, parts.randomness, parts.saw_relay)
    breaker = CircuitBreaker(
        key=RELAY_KEY,
        failures_to_open=RELAY_FAILURES_TO_OPEN,
        store=parts.store,
        backlog=backlog,
        observer=observer,
        run=parts.run,
        randomness=parts.randomness,
        start_seconds=RELAY_START_SECONDS,
    )
    pushes = Pushes(
        store=parts.store,
        relay=relay,
        messages=messages,
        breaker=breaker,
        observer=observer,
        clock=parts.store.now,
        randomness=parts.randomness,
        traces=parts.traces,
    )
    return PushLoop(pushes=pushes, backlog=backlog, breaker=breaker, jitter=_jitter(parts))


def relay_client(
    config: Config,
    identity: ServerIdentity,
    clock: Callable[[], float] = time.time,
    randomness: Callable[[int], bytes] = os.urandom,
    on_response: OnResponse = lambda offset, ends: None,
) -> RelayClient:
    """The client of the relay of these settings, which signs with `identity`."""
    return RelayClient(
        config.relay_url or "",
        identity=identity,
        server_name=config.server_name,
        clock=clock,
        randomness=randomness,
        on_response=on_response,
    )


def _jitter(parts: Dependencies) -> Callable[[], float]:
    return lambda: parts.randomness(1)[0] / 255


def _webhook_loop(target: WebhookTarget, parts: Dependencies, backlog: Backlog) -> WebhookLoop:
    observer = WebhookTelemetry(parts.metrics.webhooks())
    breaker = CircuitBreaker(
        key=RECEIVER_KEY,
        failures_to_open=RECEIVER_FAILURES_TO_OPEN,
        store=parts.store,
        backlog=backlog,
        observer=observer,
        run=parts.run,
        randomness=parts.randomness,
    )
    webhooks = Webhooks(
        store=parts.store,
        sender=webhook_sender(target.url, target.secrets, parts.time_of_day),
        breaker=breaker,
        observer=observer,
        schedule=target.schedule,
        clock=parts.store.now,
        randomness=parts.randomness,
        traces=parts.traces,
    )
    return WebhookLoop(webhooks=webhooks, backlog=backlog, breaker=breaker, jitter=_jitter(parts))


def webhook_sender(url: Secret, secrets: Sequence[Secret], clock: Callable[[], float] = time.time) -> HttpWebhookSender:
    """Posts events to `url`, signed with `secrets`."""
    # Imported here: a server without webhooks saves the HTTP client, 9 MB per process.
    from sigil.webhooks.sender import HttpWebhookSender

    return HttpWebhookSender(url.reveal(), secrets, clock=clock, user_agent=f"sigil/{__version__}")
