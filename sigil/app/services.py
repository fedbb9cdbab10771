"""Services and loops, made and joined: the part of the composition root that knows no HTTP server."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sigil import __version__
from sigil.app.loops import Loops
from sigil.approvals.creation import ApprovalCreator
from sigil.approvals.drafts import DraftBuilder
from sigil.approvals.fan_out_worker import FanOutWorker
from sigil.approvals.messages import ApprovalMessages
from sigil.approvals.service import Approvals
from sigil.challenges.messages import ChallengeMessages
from sigil.challenges.service import Challenges, Policy
from sigil.config.settings import Config
from sigil.config.webhooks import WebhookTarget
from sigil.core.device_ledger import Limits
from sigil.core.session_store import SessionStore
from sigil.delivery.backlog import Backlog, PushBacklog, PushDisabled
from sigil.delivery.receiver_watch import ReceiverWatch
from sigil.delivery.relay_watch import RelayWatch
from sigil.delivery.undelivered import EventBacklog, EventsDisabled
from sigil.inbox import Inbox
from sigil.protocol.identity import ServerIdentity
from sigil.pushes.loop import PushLoop
from sigil.pushes.messages import PushMessages
from sigil.pushes.relay_client import RelayClient
from sigil.pushes.service import Pushes
from sigil.serving.settings import Secret
from sigil.sessions.capacity import Capacity
from sigil.sessions.device_refs import DeviceResolver
from sigil.sessions.expiry import ExpirySweeper
from sigil.sessions.long_polls import LongPolls
from sigil.telemetry import event_log
from sigil.telemetry.observers import PushTelemetry, SessionObserver, SessionTelemetry, WebhookTelemetry
from sigil.webhooks.loop import WebhookLoop
from sigil.webhooks.service import Webhooks

if TYPE_CHECKING:
    from sigil.telemetry.metrics import Metrics
    from sigil.webhooks.sender import HttpWebhookSender


@dataclass(frozen=True)
class Dependencies:
    """What tests put in another's place."""

    store: SessionStore
    waiters: LongPolls
    journal: SessionObserver = field(default_factory=event_log.SessionEventLog)
    clock: Callable[[], float] = time.time
    randomness: Callable[[int], bytes] = os.urandom
    metrics: Metrics | None = None
    # One start of the server, as all its workers know it.
    run: int = field(default_factory=os.getppid)


@dataclass(frozen=True)
class Services:
    """What resources call, and the loops behind it."""

    challenges: Challenges
    approvals: Approvals
    inbox: Inbox
    loops: Loops


def build_services(config: Config, identity: ServerIdentity, parts: Dependencies) -> Services:
    """All of them over given parts."""
    store, clock, randomness = parts.store, parts.clock, parts.randomness
    told, devices = SessionTelemetry(parts.journal, parts.metrics), DeviceResolver(identity)
    of_challenges, of_approvals = ChallengeMessages(identity), ApprovalMessages(identity)
    limits = Limits(config.max_pending_per_device, config.device_rate)
    outgoing = Backlog() if config.relay_url else PushDisabled()
    ended = Backlog()
    events = EventBacklog(ended) if config.webhook else EventsDisabled()
    room = Capacity(store=store, events=events.enabled, clock=clock)
    fan_outs = FanOutWorker(store=store, outgoing=outgoing, clock=clock)
    challenges = Challenges(
        messages=of_challenges,
        devices=devices,
        store=store,
        waiters=parts.waiters,
        policy=_policy(config, limits),
        journal=told.challenge,
        clock=clock,
        randomness=randomness,
        outgoing=outgoing,
        events=events,
        room=room,
    )
    approvals = Approvals(
        drafts=_drafts(config, parts, devices, outgoing),
        register=ApprovalCreator(store=store, limits=limits, clock=clock, randomness=randomness, room=room),
        messages=of_approvals,
        devices=devices,
        store=store,
        waiters=parts.waiters,
        journal=told.approval,
        clock=clock,
        outgoing=outgoing,
        fan_outs=fan_outs,
        events=events,
    )
    inbox = Inbox(
        server_id=identity.server_id,
        challenges=of_challenges,
        approvals=of_approvals,
        devices=devices,
        store=store,
        clock=clock,
    )
    sweeper = ExpirySweeper(store=store, outgoing=outgoing, fan_outs=fan_outs, events=events, journal=told, clock=clock)
    outbox = None
    if isinstance(outgoing, Backlog):
        messages = PushMessages(of_challenges, of_approvals, identity.server_id, config.push_content)
        outbox = _outbox(config, identity, parts, outgoing, messages)
    webhooks = _webhooks(config.webhook, parts, ended) if config.webhook else None
    loops = Loops(
        store=store, sweeper=sweeper, fan_outs=fan_outs, waiters=parts.waiters, outbox=outbox, webhooks=webhooks
    )
    return Services(challenges, approvals, inbox, loops)


def _policy(config: Config, limits: Limits) -> Policy:
    return Policy(
        limits=limits,
        number_matching=config.number_matching,
        respond_to=f"{config.public_url}/respond" if config.public_url else "",
    )


def _drafts(config: Config, parts: Dependencies, devices: DeviceResolver, outgoing: PushBacklog) -> DraftBuilder:
    return DraftBuilder(
        devices=devices,
        clock=parts.clock,
        randomness=parts.randomness,
        outgoing=outgoing,
        exclude_requester=config.mpa_exclude_requester,
        respond_to=f"{config.public_url}/mpa/respond" if config.public_url else "",
    )


def _outbox(
    config: Config, identity: ServerIdentity, parts: Dependencies, outgoing: Backlog, messages: PushMessages
) -> PushLoop:
    news = PushTelemetry(parts.metrics.pushes() if parts.metrics else None)
    relay = RelayClient(
        config.relay_url or "",
        identity=identity,
        server_name=config.server_name,
        clock=parts.clock,
        randomness=parts.randomness,
    )
    watch = RelayWatch(
        store=parts.store,
        outgoing=outgoing,
        news=news,
        run=parts.run,
        randomness=parts.randomness,
    )
    pushes = Pushes(
        store=parts.store,
        relay=relay,
        messages=messages,
        watch=watch,
        news=news,
        clock=parts.clock,
        randomness=parts.randomness,
    )
    return PushLoop(pushes=pushes, outgoing=outgoing, watch=watch, jitter=_jitter(parts))


def _jitter(parts: Dependencies) -> Callable[[], float]:
    return lambda: parts.randomness(1)[0] / 255


def _webhooks(target: WebhookTarget, parts: Dependencies, outgoing: Backlog) -> WebhookLoop:
    news = WebhookTelemetry(parts.metrics.webhooks() if parts.metrics else None)
    watch = ReceiverWatch(store=parts.store, outgoing=outgoing, news=news, run=parts.run, randomness=parts.randomness)
    webhooks = Webhooks(
        store=parts.store,
        receiver=webhook_receiver(target.url, target.secrets, parts.clock),
        watch=watch,
        news=news,
        schedule=target.schedule,
        clock=parts.clock,
        randomness=parts.randomness,
    )
    return WebhookLoop(webhooks=webhooks, outgoing=outgoing, watch=watch, jitter=_jitter(parts))


def webhook_receiver(
    url: Secret, secrets: Sequence[Secret], clock: Callable[[], float] = time.time
) -> HttpWebhookSender:
    """Whoever is at `url`, told of events signed with `secrets`."""
    # Not at the top: a server without webhooks does without the HTTP client, 9 MB a process.
    from sigil.webhooks.sender import HttpWebhookSender

    return HttpWebhookSender(url.reveal(), secrets, clock=clock, user_agent=f"sigil/{__version__}")
