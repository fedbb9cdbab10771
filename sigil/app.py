"""The composition root: every part of the server is made and joined here, and nowhere else."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import falcon.asgi

from sigil import __version__, journal
from sigil.challenge_messages import ChallengeMessages
from sigil.challenges import Challenges, Journal, Policy
from sigil.config import Config
from sigil.core import challenge as rules
from sigil.core.commitment import Session
from sigil.core.decision import SessionStore, StoreFull, StoreUnusable
from sigil.core.delivery import Done
from sigil.core.ledger import Limits
from sigil.core.once import SPENT
from sigil.core.outage import RELAY
from sigil.core.outbox import OUTBOX
from sigil.first_boot import KeyDesk
from sigil.outbound.relay import RelayClient
from sigil.outbox_loop import OutboxLoop
from sigil.outgoing import Outgoing
from sigil.protocol.api_key import KeyRing
from sigil.protocol.errors import Overloaded
from sigil.protocol.identity import DerivedSecrets, ServerIdentity
from sigil.protocol.messages import Features, Info
from sigil.push_messages import PushMessages
from sigil.pushes import Pushes
from sigil.relay_watch import RelayWatch
from sigil.resources.admission import OwnPage, TokenDoor
from sigil.resources.callers import Callers
from sigil.resources.challenges import Answers, NewChallenge, OneChallenge, PendingOfDevice, StatusOfChallenge
from sigil.resources.first_boot import Doors, KeysOfInit, TooLate
from sigil.resources.openapi import OpenApi
from sigil.resources.pages import Assets, NothingHere, Page, PageFiles, values_of_home
from sigil.resources.server import HealthOfServer, InfoOfServer
from sigil.serving import logs, places, problems
from sigil.serving.edge import Edge
from sigil.serving.every_answer import EveryAnswer
from sigil.serving.intake import Intake
from sigil.serving.limits import FAILURE_COST, AddressLimiter
from sigil.serving.proxies import ClientAddresses
from sigil.serving.refusal import StartRefused
from sigil.serving.strangers import Strangers
from sigil.serving.worker_life import Life
from sigil.store.adoption import Stamp
from sigil.store.directory import StateDirectory, StateDirectoryError
from sigil.store.lmdb import LmdbStore
from sigil.waiting import Waiters
from sigil.worker import Loops

if TYPE_CHECKING:
    from sigil.metrics import Metrics, PushMetrics

KINDS = (rules.CHALLENGE, rules.LEDGER, rules.IDEMPOTENT, SPENT, OUTBOX, RELAY)
# Rows are read back after a restart only by a server that writes them the same way.
STORE_SCHEMA = "4"
_GUESSES_PER_MINUTE = 10
App = falcon.asgi.App[Any, Any]


@dataclass(frozen=True, repr=False)
class Snapshot:
    """What the master hands to each worker: the settings without the mnemonic, and what was derived from it."""

    config: Config
    secrets: DerivedSecrets
    # Of whoever set the server up in this run of its host, if it was the wizard.
    session: Session | None = None


@dataclass(frozen=True)
class Parts:
    """What tests put in another's place."""

    store: SessionStore
    waiters: Waiters
    journal: Journal = journal.record
    clock: Callable[[], float] = time.time
    randomness: Callable[[int], bytes] = os.urandom
    metrics: Metrics | None = None
    # One start of the server, as all its workers know it.
    run: int = field(default_factory=os.getppid)


def enter_state(config: Config) -> StateDirectory:
    """Take possession of the state directory, in the master; StartRefused says what to mend."""
    with _told():
        return StateDirectory.enter(config.state_dir, insecure=config.state_dir_insecure)


def settle_state(state: StateDirectory, config: Config, server_id: str, *, vouched: bool = False) -> None:
    """Adopt the session store in it or start an empty one, for a server of that identity."""
    with _told():
        state.settle(size=config.store_size, stamp=Stamp(STORE_SCHEMA, server_id), vouched=vouched)


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
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
    addresses = addresses_of(config)
    strangers = strangers_of(config, addresses)
    callers = Callers(keys, strangers)
    outgoing = Outgoing() if config.relay_url else None
    challenges = Challenges(
        identity=identity,
        store=parts.store,
        waiters=parts.waiters,
        policy=_policy(config),
        journal=_journal(parts),
        clock=parts.clock,
        randomness=parts.randomness,
        outgoing=outgoing,
    )
    loops = Loops(
        store=parts.store,
        challenges=challenges,
        waiters=parts.waiters,
        outbox=None if outgoing is None else _outbox(config, identity, parts, outgoing, challenges.messages),
    )
    app: App = falcon.asgi.App(
        middleware=[_Worker(loops, parts.store), EveryAnswer(parts.metrics.http if parts.metrics else None)]
    )
    problems.handle_errors(app, parts.metrics.problem if parts.metrics else lambda problem: None)
    app.add_error_handler(StoreFull, _store_failed)
    app.add_error_handler(StoreUnusable, _store_failed)
    app.add_route("/challenge", NewChallenge(challenges, callers))
    app.add_route("/v1/auth/challenge/{challenge_id}", OneChallenge(challenges, callers))
    app.add_route("/v1/auth/challenge/{challenge_id}/status", StatusOfChallenge(challenges, callers))
    app.add_route("/respond", Answers(challenges, strangers))
    app.add_route("/device/pending", PendingOfDevice(challenges, strangers))
    app.add_route("/health", HealthOfServer(__version__, _faults(parts)))
    app.add_route("/info", InfoOfServer(_info(config, identity), strangers))
    app.add_route("/openapi.json", OpenApi(__version__, strangers))
    if parts.metrics:
        app.add_route("/metrics", parts.metrics.resource)
    _add_pages(app, config, identity, strangers)
    if snapshot.session is not None:
        _add_keys_of_init(app, snapshot, snapshot.session, parts, addresses=addresses, strangers=strangers)
    return Edge(app, intake)


def _add_pages(app: App, config: Config, identity: ServerIdentity, strangers: Strangers) -> None:
    pages = PageFiles.load()
    values = values_of_home(identity, config.server_name, __version__)
    add_assets(app, pages, strangers)
    app.add_route("/", Page(pages.fill("home.html", values), strangers))
    app.add_sink(NothingHere(pages.fill("not_found.html", values), strangers).sink)


def add_assets(app: App, pages: PageFiles, strangers: Strangers) -> None:
    assets = Assets(pages, strangers)
    app.add_route("/assets/{name}", assets)
    app.add_route("/favicon.ico", assets)


def _add_keys_of_init(
    app: App, snapshot: Snapshot, session: Session, parts: Parts, *, addresses: ClientAddresses, strangers: Strangers
) -> None:
    config = snapshot.config
    desk = KeyDesk(
        api_key_secret=snapshot.secrets.api_key,
        session=session,
        prefix=config.key_prefix,
        clock=parts.clock,
        randomness=parts.randomness,
    )
    # The session's token is asked for, so any name will do.
    page = OwnPage(scheme=config.scheme, public_url=config.public_url, any_name=True, loopback_only=False)
    told = "Only the page that set the server up makes API keys here, for half an hour."
    doors = Doors(page, TokenDoor(desk.admits, guesses_of(config, addresses), told), strangers)
    app.add_route("/init/api-keys", KeysOfInit(desk, doors))
    app.add_route("/init/commit", TooLate(desk))


def _journal(parts: Parts) -> Journal:
    """What happens is written down, and counted where there is somebody to ask."""
    metrics = parts.metrics
    if metrics is None:
        return parts.journal

    def told(event: str, challenge_id: bytes, challenge: rules.Challenge) -> None:
        metrics.challenge(event, challenge)
        parts.journal(event, challenge_id, challenge)

    return told


class _PushNews(journal.PushJournal):
    """The same for pushes."""

    def __init__(self, metrics: PushMetrics | None) -> None:
        self._metrics = metrics

    def done(self, done: Done) -> None:
        if self._metrics:
            self._metrics.done(done)
        super().done(done)

    def relay_is_up(self, up: bool) -> None:
        if self._metrics:
            self._metrics.relay_is_up(up)


def _outbox(
    config: Config, identity: ServerIdentity, parts: Parts, outgoing: Outgoing, messages: ChallengeMessages
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
        messages=PushMessages(messages, identity.server_id, config.push_content),
        watch=watch,
        news=news,
        clock=parts.clock,
        randomness=parts.randomness,
    )
    return OutboxLoop(pushes=pushes, outgoing=outgoing, watch=watch, jitter=lambda: parts.randomness(1)[0] / 255)


def _policy(config: Config) -> Policy:
    return Policy(
        limits=Limits(config.max_pending_per_device, config.device_rate),
        number_matching=config.number_matching,
        respond_to=f"{config.public_url}/respond" if config.public_url else "",
    )


def addresses_of(config: Config) -> ClientAddresses:
    return ClientAddresses(config.trusted_proxies, cloudflare=config.use_cf_connecting_ip)


def strangers_of(config: Config, addresses: ClientAddresses) -> Strangers:
    # Each worker counts for itself: together they let through what the setting says.
    return Strangers(addresses, AddressLimiter(config.rate_limit / config.workers))


def guesses_of(config: Config, addresses: ClientAddresses) -> Strangers:
    """Those who guess a token of the wizard: ten times a minute, whatever SIGIL_RATE_LIMIT says."""
    per_worker = max(1, _GUESSES_PER_MINUTE * FAILURE_COST / config.workers)
    return Strangers(addresses, AddressLimiter(per_worker))


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
        features=Features(mpa=False, webhooks=False, secure_decrypt=False, mnemonic_generation=False),
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
