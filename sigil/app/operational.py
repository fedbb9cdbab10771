"""The composition root: every part of the server is made and joined here, and nowhere else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import falcon.asgi

from sigil import __version__
from sigil.app.loops import Loops
from sigil.app.services import Parts, assemble
from sigil.app.state import open_store
from sigil.config.settings import Config
from sigil.core.session_store import SessionStore, StoreFull, StoreUnusable
from sigil.first_boot.commitment import Session
from sigil.first_boot.service import KeyDesk
from sigil.protocol.api_key import KeyRing
from sigil.protocol.errors import Overloaded
from sigil.protocol.identity import DerivedSecrets, ServerIdentity
from sigil.protocol.messages import Features, Info
from sigil.resources.api_key_auth import Callers
from sigil.resources.approvals import NewApproval, OneApproval, StatusOfApproval, Votes
from sigil.resources.challenges import Answers, NewChallenge, OneChallenge, StatusOfChallenge
from sigil.resources.first_boot import Doors, KeysOfInit, TooLate
from sigil.resources.inbox import PendingOfDevice
from sigil.resources.openapi.document import OpenApi
from sigil.resources.origin_check import OwnPage
from sigil.resources.pages import Assets, NothingHere, Page, PageFiles, values_of_home
from sigil.resources.server import HealthOfServer, InfoOfServer
from sigil.serving import logs
from sigil.serving.http import responses
from sigil.serving.http.asgi_edge import Edge
from sigil.serving.http.bearer_token import TokenDoor, door_of_metrics, guesses_of
from sigil.serving.http.body_admission import Intake
from sigil.serving.http.client_address import ClientAddresses
from sigil.serving.http.limits import AddressLimiter
from sigil.serving.http.middleware import EveryAnswer
from sigil.serving.http.rate_limits import Strangers
from sigil.serving.process import metrics_slots
from sigil.serving.process.worker import Life
from sigil.sessions.long_polls import Waiters

if TYPE_CHECKING:
    from sigil.telemetry.metrics import Metrics

App = falcon.asgi.App[Any, Any]


@dataclass(frozen=True, repr=False)
class Snapshot:
    """What the master hands to each worker: the settings without the mnemonic, and what was derived from it."""

    config: Config
    secrets: DerivedSecrets
    # Of whoever set the server up in this run of its host, if it was the wizard.
    session: Session | None = None


def create_app(snapshot: Snapshot, life: Life) -> Edge:
    """The application of one worker process, for Granian."""
    config = snapshot.config
    store = open_store(config)
    waiters = Waiters()
    life.on_drain(waiters.drain)
    metrics = _metrics(config, store, waiters)
    return build(snapshot, Parts(store=store, waiters=waiters, metrics=metrics), life)


def _metrics(config: Config, store: SessionStore, waiters: Waiters) -> Metrics | None:
    if config.telemetry == "none":
        return None
    # Not at the top: the master imports this module before it has told where to count.
    from sigil.telemetry.metrics import Metrics

    metrics = Metrics(store, version=__version__, directory=metrics_slots.directory(config.state_dir))
    waiters.on_change = metrics.waiting
    return metrics


def build(snapshot: Snapshot, parts: Parts, life: Life) -> Edge:
    """The whole application over given parts."""
    config = snapshot.config
    identity = ServerIdentity.from_secrets(snapshot.secrets)
    keys = KeyRing(
        identity.api_key_secret,
        preset=[key.reveal() for key in config.preset_keys],
        revoked=config.revoked_keys,
        live_only=config.live_keys,
    )
    addresses = addresses_of(config)
    strangers = strangers_of(config, addresses)
    callers = Callers(keys, strangers)
    services = assemble(config, identity, parts)
    app: App = falcon.asgi.App(
        middleware=[_Worker(services.loops, parts.store), EveryAnswer(parts.metrics.http if parts.metrics else None)]
    )
    responses.handle_errors(app, parts.metrics.problem if parts.metrics else lambda problem: None)
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
    app.add_route("/health", HealthOfServer(__version__, _faults(parts, life)))
    app.add_route("/info", InfoOfServer(_info(config, identity), strangers))
    app.add_route("/openapi.json", OpenApi(__version__, strangers))
    if parts.metrics:
        door = door_of_metrics(config.metrics_token, guesses_of(addresses, config.workers))
        app.add_route("/metrics", parts.metrics.resource(door))
    _add_pages(app, config, identity)
    if snapshot.session is not None:
        _add_keys_of_init(app, snapshot, snapshot.session, parts, addresses=addresses, strangers=strangers)
    return Edge(app, Intake(), addresses)


def _add_pages(app: App, config: Config, identity: ServerIdentity) -> None:
    pages = PageFiles.load()
    values = values_of_home(identity, config.server_name, __version__)
    add_assets(app, pages)
    app.add_route("/", Page(pages.fill("home.html", values)))
    app.add_sink(NothingHere(pages.fill("not_found.html", values)).sink)


def add_assets(app: App, pages: PageFiles) -> None:
    assets = Assets(pages)
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
    doors = Doors(page, TokenDoor(desk.admits, guesses_of(addresses, config.workers), told), strangers)
    app.add_route("/init/api-keys", KeysOfInit(desk, doors))
    app.add_route("/init/commit", TooLate(desk))


def addresses_of(config: Config) -> ClientAddresses:
    return ClientAddresses(config.trusted_proxies, cloudflare=config.use_cf_connecting_ip)


def strangers_of(config: Config, addresses: ClientAddresses) -> Strangers:
    return Strangers(addresses, AddressLimiter.of_worker(config.rate_limit, config.workers))


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


def _faults(parts: Parts, life: Life) -> Callable[[], Any]:
    async def fault() -> str | None:
        if life.stopping:
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
    responses.write(resp, Overloaded(retry_after=5))


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
