"""The composition root: every part of the server is made and joined here, and nowhere else."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import falcon.asgi

from sigil import __version__, journal
from sigil.approval_drafts import Drafts
from sigil.approval_messages import ApprovalMessages
from sigil.approval_register import Register
from sigil.approvals import Approvals
from sigil.challenge_messages import ChallengeMessages
from sigil.challenges import Challenges, Policy
from sigil.config import Config
from sigil.core import webhook_delivery
from sigil.core.approval import APPROVAL, NAMED, VOTE, Approval
from sigil.core.challenge import CHALLENGE, IDEMPOTENT, LEDGER, Challenge
from sigil.core.decision import SessionStore, StoreFull, StoreUnusable
from sigil.core.delivery import Done
from sigil.core.fan_out import FAN_OUT
from sigil.core.ledger import Limits
from sigil.core.once import SPENT
from sigil.core.outage import PEER
from sigil.core.outbox import OUTBOX
from sigil.core.webhook_delivery import FAILURE
from sigil.core.webhook_event import EVENT
from sigil.devices import Devices
from sigil.fan_outs import FanOuts
from sigil.inbox import Inbox
from sigil.outbound.relay import RelayClient
from sigil.outbox_loop import OutboxLoop
from sigil.outgoing import NoPush, Outgoing, OutgoingPushes
from sigil.protocol.api_key import KeyRing
from sigil.protocol.errors import Overloaded
from sigil.protocol.identity import DerivedSecrets, ServerIdentity
from sigil.protocol.messages import Features, Info
from sigil.push_messages import PushMessages
from sigil.pushes import Pushes
from sigil.receiver_watch import ReceiverWatch
from sigil.relay_watch import RelayWatch
from sigil.resources.approvals import NewApproval, OneApproval, StatusOfApproval, Votes
from sigil.resources.callers import Callers
from sigil.resources.challenges import Answers, NewChallenge, OneChallenge, StatusOfChallenge
from sigil.resources.inbox import PendingOfDevice
from sigil.resources.openapi import OpenApi
from sigil.resources.server import HealthOfServer, InfoOfServer
from sigil.serving import logs, places, problems
from sigil.serving.edge import Edge
from sigil.serving.every_answer import EveryAnswer
from sigil.serving.intake import Intake
from sigil.serving.limits import AddressLimiter
from sigil.serving.proxies import ClientAddresses
from sigil.serving.refusal import StartRefused
from sigil.serving.settings import Secret
from sigil.serving.strangers import Strangers
from sigil.serving.worker_life import Life
from sigil.store.directory import StateDirectory, StateDirectoryError
from sigil.store.lmdb import LmdbStore
from sigil.store.running import open_running
from sigil.sweeper import Sweeper
from sigil.undelivered import NoEvents, Undelivered
from sigil.waiting import Waiters
from sigil.webhook_loop import WebhookLoop
from sigil.webhook_settings import WebhookTarget
from sigil.webhooks import Webhooks
from sigil.worker import Loops

if TYPE_CHECKING:
    from sigil.metrics import Metrics, PushMetrics, WebhookMetrics
    from sigil.outbound.webhook import WebhookReceiver

KINDS = (CHALLENGE, LEDGER, IDEMPOTENT, SPENT, OUTBOX, PEER, EVENT, FAILURE, APPROVAL, VOTE, NAMED, FAN_OUT)
# Rows are read back after a restart only by a server that writes them the same way.
STORE_SCHEMA = "5"


@dataclass(frozen=True, repr=False)
class Snapshot:
    """What the master hands to each worker: the settings without the mnemonic, and what was derived from it."""

    config: Config
    secrets: DerivedSecrets


class Journals(Protocol):
    """What services tell; `sigil.journal` writes it down."""

    def challenge(self, event: str, challenge_id: bytes, challenge: Challenge) -> None: ...

    def approval(self, event: str, mpa_id: bytes, approval: Approval, device: bytes | None = None) -> None: ...


@dataclass(frozen=True)
class Parts:
    """What tests put in another's place."""

    store: SessionStore
    waiters: Waiters
    journal: Journals = field(default_factory=journal.Journal)
    clock: Callable[[], float] = time.time
    randomness: Callable[[int], bytes] = os.urandom
    metrics: Metrics | None = None
    # One start of the server, as all its workers know it.
    run: int = field(default_factory=os.getppid)


def open_state(config: Config, server_id: str) -> StateDirectory:
    """Take possession of the state directory, in the master; StartRefused says what to mend."""
    try:
        return StateDirectory.open(
            config.state_dir,
            size=config.store_size,
            schema=STORE_SCHEMA,
            server_id=server_id,
            insecure=config.state_dir_insecure,
        )
    except StateDirectoryError as error:
        raise StartRefused(str(error)) from error


def open_running_store(state_dir: Path) -> SessionStore:
    """The store of the server that runs on a state directory; StartRefused says why there is none."""
    try:
        return open_running(state_dir, schema=STORE_SCHEMA, kinds=KINDS, clock=time.time)
    except StateDirectoryError as error:
        raise StartRefused(str(error)) from error


def create_app(snapshot: Snapshot, life: Life) -> Edge:
    """The application of one worker process, for Granian."""
    config = snapshot.config
    store = LmdbStore(config.state_dir, size=config.store_size, kinds=KINDS, clock=time.time, create=False)
    waiters = Waiters()
    life.on_drain(waiters.drain)
    return build(snapshot, Parts(store=store, waiters=waiters, metrics=_metrics(config, store, waiters)))


def _metrics(config: Config, store: SessionStore, waiters: Waiters) -> Metrics | None:
    if config.telemetry == "none":
        return None
    # Not at the top: the master imports this module before it has told where to count.
    from sigil.metrics import Metrics

    token = config.metrics_token.reveal() if config.metrics_token else None
    metrics = Metrics(store, version=__version__, directory=places.directory(config.state_dir), token=token)
    waiters.on_change = metrics.waiting
    return metrics


def build(snapshot: Snapshot, parts: Parts) -> Edge:
    """The whole application over given parts."""
    config = snapshot.config
    identity = ServerIdentity.from_secrets(snapshot.secrets)
    intake = Intake()
    keys = KeyRing(
        identity.api_key_secret,
        preset=[key.reveal() for key in config.preset_keys],
        revoked=config.revoked_keys,
        live_only=config.live_keys,
    )
    strangers = _strangers(config)
    callers = Callers(keys, strangers)
    services = _services(config, identity, parts)
    app: falcon.asgi.App[Any, Any] = falcon.asgi.App(
        middleware=[_Worker(services.loops, parts.store), EveryAnswer(parts.metrics.http if parts.metrics else None)]
    )
    problems.handle_errors(app, parts.metrics.problem if parts.metrics else lambda problem: None)
    app.add_error_handler(StoreFull, _store_failed)
    app.add_error_handler(StoreUnusable, _store_failed)
    challenges, approvals = services.challenges, services.approvals
    app.add_route("/challenge", NewChallenge(challenges, callers))
    app.add_route("/v1/auth/challenge/{challenge_id}", OneChallenge(challenges, callers))
    app.add_route("/v1/auth/challenge/{challenge_id}/status", StatusOfChallenge(challenges, callers))
    app.add_route("/respond", Answers(challenges, strangers))
    app.add_route("/mpa/request", NewApproval(approvals, callers))
    app.add_route("/mpa/request/{request_id}", OneApproval(approvals, callers))
    app.add_route("/mpa/status/{request_id}", StatusOfApproval(approvals, callers))
    app.add_route("/mpa/respond", Votes(approvals, strangers))
    app.add_route("/device/pending", PendingOfDevice(services.inbox, strangers))
    app.add_route("/health", HealthOfServer(__version__, _faults(parts)))
    app.add_route("/info", InfoOfServer(_info(config, identity), strangers))
    app.add_route("/openapi.json", OpenApi(__version__, strangers))
    if parts.metrics:
        app.add_route("/metrics", parts.metrics.resource)
    return Edge(app, intake)


@dataclass(frozen=True)
class _Services:
    challenges: Challenges
    approvals: Approvals
    inbox: Inbox
    loops: Loops


def _services(config: Config, identity: ServerIdentity, parts: Parts) -> _Services:
    """What resources call, and the loops behind it."""
    store, clock, randomness = parts.store, parts.clock, parts.randomness
    told, devices = _Told(parts.journal, parts.metrics), Devices(identity)
    of_challenges, of_approvals = ChallengeMessages(identity), ApprovalMessages(identity)
    limits = Limits(config.max_pending_per_device, config.device_rate)
    outgoing = Outgoing() if config.relay_url else NoPush()
    ended = Outgoing()
    events = _undelivered(parts, ended) if config.webhook else NoEvents()
    fan_outs = FanOuts(store=store, outgoing=outgoing, clock=clock)
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
    )
    approvals = Approvals(
        drafts=_drafts(config, parts, devices, outgoing),
        register=Register(store=store, limits=limits, clock=clock, randomness=randomness, events=events),
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
    sweeper = Sweeper(store=store, outgoing=outgoing, fan_outs=fan_outs, events=events, journal=told, clock=clock)
    outbox = None
    if isinstance(outgoing, Outgoing):
        messages = PushMessages(of_challenges, of_approvals, identity.server_id, config.push_content)
        outbox = _outbox(config, identity, parts, outgoing, messages)
    webhooks = _webhooks(config.webhook, parts, ended) if config.webhook else None
    loops = Loops(
        store=store, sweeper=sweeper, fan_outs=fan_outs, waiters=parts.waiters, outbox=outbox, webhooks=webhooks
    )
    return _Services(challenges, approvals, inbox, loops)


class _Told:
    """What happens is written down, and counted where there is somebody to ask."""

    def __init__(self, journal: Journals, metrics: Metrics | None) -> None:
        self._journal = journal
        self._metrics = metrics

    def challenge(self, event: str, challenge_id: bytes, challenge: Challenge) -> None:
        if self._metrics:
            self._metrics.challenge(event, challenge)
        self._journal.challenge(event, challenge_id, challenge)

    def approval(self, event: str, mpa_id: bytes, approval: Approval, device: bytes | None = None) -> None:
        if self._metrics:
            self._metrics.approval(event, approval)
        self._journal.approval(event, mpa_id, approval, device)


class _PushNews(journal.PushJournal):
    """The same for pushes."""

    def __init__(self, metrics: PushMetrics | None) -> None:
        self._metrics = metrics

    def done(self, done: Done) -> None:
        if self._metrics:
            self._metrics.done(done)
        super().done(done)

    def is_up(self, up: bool) -> None:
        if self._metrics:
            self._metrics.is_up(up)


def _outbox(
    config: Config, identity: ServerIdentity, parts: Parts, outgoing: Outgoing, messages: PushMessages
) -> OutboxLoop:
    news = _PushNews(parts.metrics.pushes() if parts.metrics else None)
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
    return OutboxLoop(pushes=pushes, outgoing=outgoing, watch=watch, jitter=_jitter(parts))


def _jitter(parts: Parts) -> Callable[[], float]:
    return lambda: parts.randomness(1)[0] / 255


class _WebhookNews(journal.WebhookJournal):
    """The same for webhooks."""

    def __init__(self, metrics: WebhookMetrics | None) -> None:
        self._metrics = metrics

    def done(self, done: webhook_delivery.Done) -> None:
        if self._metrics:
            self._metrics.done(done)
        super().done(done)

    def is_up(self, up: bool) -> None:
        if self._metrics:
            self._metrics.is_up(up)


def _undelivered(parts: Parts, outgoing: Outgoing) -> Undelivered:
    pending = (CHALLENGE, APPROVAL)
    return Undelivered(store=parts.store, pending=pending, outgoing=outgoing, clock=parts.clock)


def _webhooks(target: WebhookTarget, parts: Parts, outgoing: Outgoing) -> WebhookLoop:
    news = _WebhookNews(parts.metrics.webhooks() if parts.metrics else None)
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


def webhook_receiver(url: Secret, secrets: Sequence[Secret], clock: Callable[[], float] = time.time) -> WebhookReceiver:
    """Whoever is at `url`, told of events signed with `secrets`."""
    # Not at the top: a server without webhooks does without the HTTP client, 9 MB a process.
    from sigil.outbound.webhook import WebhookReceiver

    return WebhookReceiver(url.reveal(), secrets, clock=clock, user_agent=f"sigil/{__version__}")


def _policy(config: Config, limits: Limits) -> Policy:
    return Policy(
        limits=limits,
        number_matching=config.number_matching,
        respond_to=f"{config.public_url}/respond" if config.public_url else "",
    )


def _drafts(config: Config, parts: Parts, devices: Devices, outgoing: OutgoingPushes) -> Drafts:
    return Drafts(
        devices=devices,
        clock=parts.clock,
        randomness=parts.randomness,
        outgoing=outgoing,
        exclude_requester=config.mpa_exclude_requester,
        respond_to=f"{config.public_url}/mpa/respond" if config.public_url else "",
    )


def _strangers(config: Config) -> Strangers:
    addresses = ClientAddresses(config.trusted_proxies, cloudflare=config.use_cf_connecting_ip)
    # Each worker counts for itself: together they let through what the setting says.
    return Strangers(addresses, AddressLimiter(config.rate_limit / config.workers))


def _info(config: Config, identity: ServerIdentity) -> Info:
    return Info(
        server_id=identity.server_id,
        server_name=config.server_name,
        server_public_key=identity.server_public_keys["ES256"],
        server_public_keys=identity.server_public_keys,
        keys_signature=identity.keys_signature,
        server_pictogram=identity.pictogram,
        server_pictogram_speakable=identity.pictogram_speakable,
        version=__version__,
        mode="operational",
        features=Features(
            mpa=True, webhooks=config.webhook is not None, secure_decrypt=False, mnemonic_generation=False
        ),
        # Where devices register: no use to them while nothing is pushed.
        relay_url=config.relay_public_url if config.relay_url else None,
    )


def _faults(parts: Parts) -> Callable[[], Any]:
    async def fault() -> str | None:
        if parts.waiters.draining:
            return "the server is stopping"
        try:
            await parts.store.check()
        except (StoreFull, StoreUnusable) as error:
            logs.error("store_unusable", exc=error, reason=str(error))
            return "the session store cannot be used; the log says why"
        return None

    return fault


async def _store_failed(
    req: falcon.asgi.Request, resp: falcon.asgi.Response, error: Exception, _params: object
) -> None:
    logs.error("store_failed", exc=error, reason=str(error), route=req.uri_template)
    problems.write(resp, Overloaded(retry_after=5))


class _Worker:
    """Falcon middleware: the life of the worker's parts."""

    def __init__(self, loops: Loops, store: SessionStore) -> None:
        self._loops = loops
        self._store = store

    async def process_startup(self, _scope: object, _event: object) -> None:
        await self._store.check()
        self._loops.start()

    async def process_shutdown(self, _scope: object, _event: object) -> None:
        await self._loops.stop()
        self._store.close()
