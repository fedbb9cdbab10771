"""The composition root: every part of the relay is made and joined here, and nowhere else."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import falcon.asgi
import msgspec

from relay import __version__
from relay.app.loops import Loops
from relay.config import Config, Storage
from relay.pushes.dispatch import Dispatch, NullObserver
from relay.pushes.service import Pushes
from relay.registration.devices import Devices
from relay.registration.nonces import Nonces
from relay.registration.origins import Origins
from relay.registration.servers import Servers, TrustPolicy
from relay.registry.model import SILENT, Platform, Push, RegistryBusy
from relay.registry.port import Registry
from relay.registry.rules import Rate
from relay.registry.sealing import Sealer
from relay.resources.devices import (
    DeviceRegistrationResource,
    DeviceUnregistrationResource,
    RegistrationChallengeResource,
)
from relay.resources.health import HealthResource
from relay.resources.servers import PushesResource, PushOutcomesResource, ServerRegistrationResource
from relay.resources.socket import DeviceSocketResource
from relay.sockets.connections import Sockets
from relay.sockets.handshake_limit import HandshakeLimit
from relay.sockets.listener import SocketListener
from relay.sockets.session import DeviceSession
from relay.transports import Transport
from relay.transports.console import ConsoleTransport
from relay.transports.credential_breaker import CredentialBreaker
from sigil.protocol.errors import Overloaded
from sigil.serving.http import responses
from sigil.serving.http.asgi_edge import Edge
from sigil.serving.http.bearer_token import guess_limit, metrics_guard
from sigil.serving.http.body_admission import BodyAdmission
from sigil.serving.http.client_address import ClientAddresses
from sigil.serving.http.middleware import ResponseMiddleware
from sigil.serving.http.rate_limits import AddressLimiter, AddressRateLimit
from sigil.serving.process import metrics_slots
from sigil.serving.process.worker import WorkerLifecycle

if TYPE_CHECKING:
    from relay.metrics import Metrics

REGISTRATIONS_PER_MINUTE = 30
REQUESTS_PER_MINUTE = 600
POOL_SIZE = 6
_FIGURES_SECONDS = 5.0


@dataclass(frozen=True, repr=False)
class Snapshot:
    """What the master hands to each worker. `nonce_secret` is one for all of them."""

    config: Config
    nonce_secret: bytes
    state_dir: Path


@dataclass(frozen=True)
class Parts:
    """What tests put in another's place; `transports` instead of those that the settings ask for."""

    registry: Registry
    sealer: Sealer
    transports: Mapping[Platform, Transport] | None = None
    clock: Callable[[], float] = time.time
    randomness: Callable[[int], bytes] = os.urandom


def open_registry(storage: Storage | Config, name: str) -> Registry:
    """The registry that the settings ask for, not yet opened."""
    if storage.database_url is not None:
        from relay.registry.postgres.registry import PostgresRegistry

        return PostgresRegistry(storage.database_url.reveal(), pool_size=POOL_SIZE, application_name=name)
    from relay.registry.sqlite.registry import SqliteRegistry

    return SqliteRegistry(storage.database_file)


def sealer(storage: Storage | Config) -> Sealer:
    """SQLite may have begun without a key; what it holds from then is still read."""
    keys = [key.reveal() for key in storage.encryption_keys]
    return Sealer(keys, reads_plain=storage.database_url is None)


def transports(
    config: Config, clock: Callable[[], float], on_denied: Callable[[str, bool], None]
) -> dict[Platform, Transport]:
    """By platform; what is not in it is off."""
    # Not at the top: the master imports this module, and has no use for two HTTP clients.
    from relay.transports.apns import ApnsTransport
    from relay.transports.fcm import FcmTransport

    found: dict[Platform, Transport] = {}
    if config.push_console:
        console = ConsoleTransport()
        found = {"apns": console, "fcm": console}
    if config.apns is not None:
        found["apns"] = _standing("apns", ApnsTransport(config.apns, clock), on_denied)
    if config.fcm is not None:
        found["fcm"] = _standing("fcm", FcmTransport(config.fcm, clock), on_denied)
    return found


def _standing(provider: str, transport: Transport, on_denied: Callable[[str, bool], None]) -> CredentialBreaker:
    return CredentialBreaker(
        provider, transport, clock=time.monotonic, on_denied=lambda denied: on_denied(provider, denied)
    )


def create_app(snapshot: Snapshot, life: WorkerLifecycle) -> Edge:
    """The application of one worker process, for Granian."""
    config = snapshot.config
    registry = open_registry(config, f"sigil-relay worker {life.index}")
    return build(snapshot, Parts(registry, sealer(config)), life)


def build(snapshot: Snapshot, parts: Parts, life: WorkerLifecycle) -> Edge:
    """The whole application over given parts."""
    config, registry, clock = snapshot.config, parts.registry, parts.clock
    figures = _Figures(registry)
    metrics = _metrics(snapshot, figures)
    news = metrics or NullObserver()
    dispatch = Dispatch(
        registry=registry,
        sealer=parts.sealer,
        transports=transports(config, clock, news.credentials_denied) if parts.transports is None else parts.transports,
        clock=clock,
        observer=news,
    )
    sockets = Sockets(
        registry=registry,
        frame=_frames(parts.sealer),
        clock=clock,
        randomness=parts.randomness,
        on_count=metrics.connections if metrics else lambda count: None,
        on_delivered=_acknowledged(metrics, clock),
    )
    loops = Loops(
        registry=registry,
        sealer=parts.sealer,
        dispatch=dispatch,
        sockets=sockets,
        clock=clock,
        on_silent=lambda evicted: news.evicted(SILENT, evicted),
    )
    origins = Origins(config.public_url)
    addresses = ClientAddresses(config.trusted_proxies, cloudflare=config.use_cf_connecting_ip)
    conversation = DeviceSession(registry=registry, sockets=sockets, clock=clock, randomness=parts.randomness)
    listener = None
    if config.ws_port is not None:
        listener = SocketListener(
            config.host,
            config.ws_port,
            session=conversation,
            origins=origins,
            addresses=addresses,
            handshakes=HandshakeLimit(time.monotonic, metrics.handshake_aborted if metrics else lambda: None),
        )
    middleware: list[Any] = [
        _Worker(
            parts=parts,
            loops=loops,
            dispatch=dispatch,
            sockets=sockets,
            listener=listener,
            life=life,
            figures=figures,
        ),
        ResponseMiddleware(metrics.http if metrics else None),
    ]
    app: falcon.asgi.App[Any, Any] = falcon.asgi.App(middleware=middleware)
    # Falcon would buffer frames in a task for each socket; we are always receiving, so there is nothing to buffer.
    app.ws_options.max_receive_queue = 0
    responses.handle_errors(app, metrics.problem if metrics else lambda problem: None)
    app.add_error_handler(RegistryBusy, _busy)
    _route(app, snapshot=snapshot, parts=parts, dispatch=dispatch, origins=origins, addresses=addresses)
    app.add_route("/health", HealthResource(__version__, _faults(registry, life)))
    if metrics:
        door = metrics_guard(config.metrics_token, guess_limit(addresses, config.workers))
        app.add_route("/metrics", metrics.resource(door))
    if listener is not None:
        # There alone: on this port a frame of 16 MiB is taken into memory before anyone has said who they are.
        return Edge(app, BodyAdmission(), addresses)
    app.add_route("/ws", DeviceSocketResource(conversation, origins, addresses))
    return Edge(app, BodyAdmission(), addresses, sockets=frozenset({"/ws"}))


def _route(
    app: falcon.asgi.App[Any, Any],
    *,
    snapshot: Snapshot,
    parts: Parts,
    dispatch: Dispatch,
    origins: Origins,
    addresses: ClientAddresses,
) -> None:
    config, registry, clock, randomness = snapshot.config, parts.registry, parts.clock, parts.randomness
    strangers = AddressRateLimit(addresses, AddressLimiter.of_worker(REQUESTS_PER_MINUTE, config.workers))
    registrars = AddressRateLimit(addresses, AddressLimiter.of_worker(REGISTRATIONS_PER_MINUTE, config.workers))
    nonces = Nonces(snapshot.nonce_secret, clock=clock, randomness=randomness)
    devices = Devices(registry=registry, sealer=parts.sealer, nonces=nonces, clock=clock)
    trust = TrustPolicy(config.trusted_servers, on_first_use=config.trust_on_first_use)
    servers = Servers(registry=registry, trust=trust, clock=clock)
    pushes = Pushes(
        registry=registry,
        sealer=parts.sealer,
        dispatch=dispatch,
        rate=Rate(config.push_rate),
        clock=clock,
        randomness=randomness,
    )
    app.add_route("/devices/register/challenge", RegistrationChallengeResource(devices, strangers))
    app.add_route("/devices/register", DeviceRegistrationResource(devices, origins, registrars))
    app.add_route("/devices/unregister", DeviceUnregistrationResource(devices, origins, registrars))
    app.add_route("/servers/register", ServerRegistrationResource(servers))
    app.add_route("/push", PushesResource(servers, pushes))
    app.add_route("/push/outcomes", PushOutcomesResource(servers, pushes))


def _metrics(snapshot: Snapshot, figures: _Figures) -> Metrics | None:
    if snapshot.config.telemetry == "none":
        return None
    # Not at the top: the master imports this module, and only workers may import metrics.
    from relay.metrics import Metrics

    return Metrics(version=__version__, directory=metrics_slots.directory(snapshot.state_dir), figures=figures.read)


def _frames(sealer: Sealer) -> Callable[[Push], str | None]:
    """A held push as the text frame of its device: the payload with `push_id`."""

    def frame(push: Push) -> str | None:
        wanted = push.push
        payload = msgspec.json.decode(sealer.open("payload", wanted.fingerprint, "", wanted.payload))
        return msgspec.json.encode({**payload, "push_id": wanted.push_id.hex()}).decode()

    return frame


def _acknowledged(metrics: Metrics | None, clock: Callable[[], float]) -> Callable[[Push], None]:
    def delivered(push: Push) -> None:
        if metrics:
            metrics.delivered(max(0.0, clock() - push.created_at))

    return delivered


def _faults(registry: Registry, life: WorkerLifecycle) -> Callable[[], Awaitable[str | None]]:
    async def fault() -> str | None:
        if life.stopping:
            return "the relay is stopping"
        try:
            await registry.check()
        except RegistryBusy:
            return "the database cannot be reached"
        return None

    return fault


class _Figures:
    """What the registry knows at a scrape, which runs in a thread beside the loop."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self.loop: asyncio.AbstractEventLoop | None = None

    def read(self) -> Iterator[Any]:
        from prometheus_client.metrics_core import GaugeMetricFamily

        if self.loop is None:
            return
        try:
            asked = asyncio.run_coroutine_threadsafe(self._ask(), self.loop)
            devices, backlog = asked.result(_FIGURES_SECONDS)
        except (RegistryBusy, TimeoutError):
            return
        counts = GaugeMetricFamily("relay_devices", "Registrations by platform.", labels=["platform"])
        for platform, count in devices.items():
            counts.add_metric([platform], count)
        yield counts
        yield GaugeMetricFamily("relay_pushes_queued", "Pushes that are not decided.", value=backlog)

    async def _ask(self) -> tuple[dict[str, int], int]:
        return await self._registry.count_devices(), await self._registry.backlog()


async def _busy(_req: object, resp: falcon.asgi.Response, _error: RegistryBusy, _params: object) -> None:
    responses.write_problem(resp, Overloaded(retry_after=2))


class _Worker:
    """Falcon middleware: the life of the worker's parts."""

    def __init__(
        self,
        *,
        parts: Parts,
        loops: Loops,
        dispatch: Dispatch,
        sockets: Sockets,
        listener: SocketListener | None,
        life: WorkerLifecycle,
        figures: _Figures,
    ) -> None:
        self._registry = parts.registry
        self._loops = loops
        self._dispatch = dispatch
        self._sockets = sockets
        self._listener = listener
        self._life = life
        self._figures = figures
        self._draining: asyncio.Task[None] | None = None

    async def process_startup(self, _scope: object, _event: object) -> None:
        self._figures.loop = asyncio.get_running_loop()
        await self._registry.open(self._sockets.on_notification)
        self._dispatch.open()
        self._loops.start()
        self._life.on_drain(self._drain)
        if self._listener is not None:
            await self._listener.open()

    def _drain(self) -> asyncio.Task[None]:
        self._draining = asyncio.create_task(self._end_sockets())
        return self._draining

    async def _end_sockets(self) -> None:
        if self._listener is not None:
            await self._listener.close()
        await self._sockets.drain()

    async def process_shutdown(self, _scope: object, _event: object) -> None:
        if self._draining is not None:
            await self._draining
        await self._loops.stop()
        await self._dispatch.close()
        await self._registry.close()
