"""The composition root: every component of the relay is created and connected here, and nowhere else."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import falcon.asgi
import msgspec

from relay import __version__
from relay.app.database_watch import DatabaseWatch
from relay.app.loops import Loops
from relay.config import Config, Storage
from relay.pushes.dispatch import Dispatch, NullObserver
from relay.pushes.histories import Histories
from relay.pushes.server_shares import ServerShares
from relay.pushes.service import Pushes
from relay.registration.capacity import RegistrationCapacity
from relay.registration.devices import Devices
from relay.registration.nonces import Nonces
from relay.registration.origins import Origins
from relay.registration.rejections import RejectionLog
from relay.registration.servers import Servers, TrustPolicy
from relay.registry.model import Platform, Push, RegistryBusy, RegistryUnusable
from relay.registry.port import Registry
from relay.registry.rules import Rate
from relay.registry.sealing import Sealer
from relay.resources.cross_origin import CrossOriginMiddleware
from relay.resources.devices import (
    DeviceRegistrationResource,
    DeviceUnregistrationResource,
    RegistrationChallengeResource,
)
from relay.resources.health import HealthResource
from relay.resources.servers import (
    PushesResource,
    PushHistoryResource,
    PushOutcomesResource,
    ServerRegistrationResource,
)
from relay.resources.signed_requests import SignedRequests
from relay.resources.socket import DeviceSocketResource
from relay.sockets.authentication_limits import CONNECTS_PER_MINUTE, AuthenticationLimits
from relay.sockets.connection_limit import Capacity, ConnectionLimit
from relay.sockets.connections import DeviceConnections
from relay.sockets.listener import SocketListener
from relay.sockets.session import DeviceSession
from relay.transports import Laned, Transport
from relay.transports.console import ConsoleTransport
from relay.transports.credential_breaker import CredentialBreaker
from sigil.protocol.errors import Overloaded
from sigil.serving import logs
from sigil.serving.http import responses
from sigil.serving.http.asgi_edge import AsgiEdge
from sigil.serving.http.bearer_token import guess_limit
from sigil.serving.http.body_admission import BodyAdmission
from sigil.serving.http.client_address import ClientAddresses
from sigil.serving.http.metrics_access import MetricsGuard
from sigil.serving.http.middleware import ResponseMiddleware
from sigil.serving.http.rate_limits import AddressBuckets, AddressRateLimit
from sigil.serving.process.lifecycle import WorkerLifecycle
from sigil.serving.startup_error import StartupError
from sigil.serving.tracing.in_worker import FLUSH_SECONDS, tracer_of_worker

if TYPE_CHECKING:
    from relay.metrics import Metrics
    from relay.tracing import PushTraces
    from relay.transports.webpush.hosts import HostPools
    from sigil.serving.tracing.tracer import Tracer

REGISTRATIONS_PER_MINUTE = 30
REQUESTS_PER_MINUTE = 600
POOL_SIZE = 6
# Requests of servers that use the database at once. SQLite runs one transaction at a time, and the next one waits;
# of the connections of PostgreSQL two are left for devices.
_SQLITE_REQUESTS, _POSTGRES_REQUESTS = 2, POOL_SIZE - 2
_GAUGES_SECONDS = 5.0


@dataclass(frozen=True, repr=False)
class Snapshot:
    """The data that the master passes to each worker. All of them have the same `nonce_secret`."""

    config: Config
    nonce_secret: bytes


@dataclass(frozen=True)
class Dependencies:
    """The dependencies that tests replace. `transports` replaces those that the settings configure."""

    registry: Registry
    sealer: Sealer
    transports: Mapping[Platform, Transport] | None = None
    tracer: Tracer | None = None
    clock: Callable[[], float] = time.time
    randomness: Callable[[int], bytes] = os.urandom


def _log_waiting(line: str) -> None:
    logs.warn("waiting_for_database", message=line)


def open_registry(storage: Storage | Config, name: str, on_waiting: Callable[[str], None] = _log_waiting) -> Registry:
    """The registry that the settings configure, not yet opened. `on_waiting` gets a line when the database does not
    accept connections yet."""
    if storage.database_url is not None:
        from relay.registry.postgres.registry import PostgresRegistry

        dsn = storage.database_url.reveal()
        return PostgresRegistry(dsn, pool_size=POOL_SIZE, application_name=name, on_waiting=on_waiting)
    from relay.registry.sqlite.registry import SqliteRegistry

    return SqliteRegistry(storage.database_file)


def create_sealer(storage: Storage | Config) -> Sealer:
    """A SQLite database may have been created without a key: its plain values stay readable."""
    keys = [key.reveal() for key in storage.encryption_keys]
    return Sealer(keys, reads_plain=storage.database_url is None)


def create_transports(
    config: Config, clock: Callable[[], float], on_denied: Callable[[str, bool], None]
) -> dict[Platform, Transport]:
    """By platform; a platform without a transport is off."""
    transports: dict[Platform, Transport] = {}
    if config.push_console:
        console = ConsoleTransport()
        transports = {"apns": console, "fcm": console}
    for provider, transport in provider_transports(config, clock).items():
        # No answer to a subscription, which a device names, is about the relay's own key: Web Push has no breaker.
        breaks = not isinstance(transport, Laned)
        transports[provider] = _with_breaker(provider, transport, on_denied) if breaks else transport
    return transports


def provider_transports(config: Config, clock: Callable[[], float]) -> dict[Platform, Transport]:
    """Those with credentials, which report how a provider rejects them."""
    # Not at the top: the master imports this module and needs no HTTP client.
    from relay.transports.apns import ApnsTransport
    from relay.transports.fcm import FcmTransport
    from relay.transports.webpush.transport import WebPushTransport

    transports: dict[Platform, Transport] = {}
    if config.apns is not None:
        transports["apns"] = ApnsTransport(config.apns, clock)
    if config.fcm is not None:
        transports["fcm"] = FcmTransport(config.fcm, clock)
    if config.webpush is not None:
        transports["webpush"] = WebPushTransport(config.webpush, clock)
    return transports


def push_service_pools() -> HostPools:
    """For a command that only connects."""
    from relay.transports.webpush.hosts import HostPools

    return HostPools()


def _lanes(transports: Mapping[Platform, Transport]) -> dict[Platform, Callable[[str], str]]:
    return {platform: transport.lane for platform, transport in transports.items() if isinstance(transport, Laned)}


def _with_breaker(provider: str, transport: Transport, on_denied: Callable[[str, bool], None]) -> CredentialBreaker:
    return CredentialBreaker(
        provider, transport, clock=time.monotonic, on_denied=lambda denied: on_denied(provider, denied)
    )


def create_app(snapshot: Snapshot, lifecycle: WorkerLifecycle) -> AsgiEdge:
    """The application of one worker process, for Granian."""
    config = snapshot.config
    registry = open_registry(config, f"sigil-relay worker {lifecycle.index}")
    tracer = tracer_of_worker(config.tracing, "relay", __version__, lifecycle)
    return build(snapshot, Dependencies(registry, create_sealer(config), tracer=tracer), lifecycle)


def build(snapshot: Snapshot, dependencies: Dependencies, lifecycle: WorkerLifecycle) -> AsgiEdge:
    """The whole application over the given dependencies."""
    config, registry, clock = snapshot.config, dependencies.registry, dependencies.clock
    database = DatabaseWatch(registry)
    gauges = _RegistryGauges(registry, database, config.max_devices, clock)
    metrics = _metrics(snapshot, gauges, lifecycle)
    observer = metrics or NullObserver()
    transports = dependencies.transports
    if transports is None:
        transports = create_transports(config, clock, observer.credentials_denied)
    tracer = dependencies.tracer
    traces = _push_traces(tracer)
    dispatch = Dispatch(
        registry=registry,
        sealer=dependencies.sealer,
        transports=transports,
        clock=clock,
        observer=observer,
        traces=traces,
        lanes=_lanes(transports),
    )
    sockets = DeviceConnections(
        registry=registry,
        frame=_frame_encoder(dependencies.sealer),
        clock=clock,
        randomness=dependencies.randomness,
        on_count=metrics.connections if metrics else lambda count: None,
        on_delivered=_delivery_observer(metrics, clock),
        traces=traces,
    )
    registrations = RegistrationCapacity(config.max_devices)
    loops = Loops(
        registry=registry,
        database=database,
        sealer=dependencies.sealer,
        dispatch=dispatch,
        sockets=sockets,
        capacity=registrations,
        clock=clock,
        on_evicted=observer.evicted,
    )
    origins = Origins(config.public_url)
    addresses = ClientAddresses.behind(config.proxies)
    lifecycle.connections.address_of = addresses.of_connection
    if metrics:
        metrics.http.observe_connections(lifecycle.connections)
        metrics.http.observe_addresses(addresses)
    capacity = Capacity.of_process()
    unauthenticated = ConnectionLimit(
        max_total=capacity.unauthenticated,
        max_per_address=capacity.unauthenticated_of_address,
        on_evict=metrics.unauthenticated_evicted if metrics else lambda: None,
    )
    session = DeviceSession(
        registry=registry,
        sockets=sockets,
        clock=clock,
        randomness=dependencies.randomness,
        limits=AuthenticationLimits(
            AddressBuckets.of_worker(REQUESTS_PER_MINUTE, config.workers),
            AddressBuckets(CONNECTS_PER_MINUTE),
            metrics.authentication_limited if metrics else lambda: None,
        ),
        unauthenticated=unauthenticated,
        authenticated=ConnectionLimit(
            max_total=capacity.authenticated, on_evict=metrics.device_evicted if metrics else lambda: None
        ),
    )
    listener = None
    if config.ws_port is not None:
        listener = SocketListener(
            config.host,
            config.ws_port,
            session=session,
            origins=origins,
            addresses=addresses,
            unauthenticated=unauthenticated,
        )
    middleware: list[Any] = [
        _Lifespan(
            dependencies=dependencies,
            loops=loops,
            dispatch=dispatch,
            sockets=sockets,
            listener=listener,
            lifecycle=lifecycle,
            gauges=gauges,
        ),
        ResponseMiddleware(metrics.http if metrics else None),
        CrossOriginMiddleware(),
    ]
    if tracer is not None:
        middleware.append(_request_traces(tracer))
    app: falcon.asgi.App[Any, Any] = falcon.asgi.App(middleware=middleware)
    # Falcon would buffer frames in a task per socket. The session always receives, so there is nothing to buffer.
    app.ws_options.max_receive_queue = 0
    responses.handle_errors(app, metrics.problem if metrics else lambda problem: None)
    app.add_error_handler(RegistryBusy, _registry_busy)
    _route(
        app,
        snapshot=snapshot,
        dependencies=dependencies,
        dispatch=dispatch,
        capacity=registrations,
        origins=origins,
        addresses=addresses,
        rejections=RejectionLog(metrics.server_rejected if metrics else lambda reason: None),
        traces=traces,
    )
    app.add_route("/health", HealthResource(__version__, _health_check(database, lifecycle)))
    if metrics:
        guard = MetricsGuard(config.metrics_token, config.metrics_open, guess_limit(addresses, config.workers))
        app.add_route("/metrics", metrics.resource(guard))
    if listener is not None:
        # No WebSocket on this port: it would read a frame of 16 MiB into memory before the device has authenticated.
        return AsgiEdge(app, BodyAdmission(), addresses)
    app.add_route("/ws", DeviceSocketResource(session, origins, addresses))
    return AsgiEdge(app, BodyAdmission(), addresses, sockets=frozenset({"/ws"}))


def _route(
    app: falcon.asgi.App[Any, Any],
    *,
    snapshot: Snapshot,
    dependencies: Dependencies,
    dispatch: Dispatch,
    capacity: RegistrationCapacity,
    origins: Origins,
    addresses: ClientAddresses,
    rejections: RejectionLog,
    traces: PushTraces | None,
) -> None:
    config, registry = snapshot.config, dependencies.registry
    clock, randomness = dependencies.clock, dependencies.randomness
    challenges = AddressRateLimit(addresses, AddressBuckets.of_worker(REQUESTS_PER_MINUTE, config.workers))
    registrations = AddressRateLimit(addresses, AddressBuckets.of_worker(REGISTRATIONS_PER_MINUTE, config.workers))
    failures = AddressRateLimit(addresses, AddressBuckets.of_worker(REQUESTS_PER_MINUTE, config.workers))
    nonces = Nonces(snapshot.nonce_secret, clock=clock, randomness=randomness)
    devices = Devices(
        registry=registry,
        sealer=dependencies.sealer,
        nonces=nonces,
        capacity=capacity,
        clock=clock,
        webpush=config.webpush,
    )
    trust = TrustPolicy(config.trusted_servers, on_first_use=config.trust_on_first_use)
    servers = Servers(registry=registry, trust=trust, clock=clock)
    shares = ServerShares(
        AddressBuckets(config.server_rate / config.workers),
        concurrent=_SQLITE_REQUESTS if config.database_url is None else _POSTGRES_REQUESTS,
    )
    pushes = Pushes(
        registry=registry,
        sealer=dependencies.sealer,
        dispatch=dispatch,
        rate=Rate(config.push_rate),
        shares=shares,
        clock=clock,
        randomness=randomness,
        traces=traces,
    )
    app.add_route("/devices/register/challenge", RegistrationChallengeResource(devices, challenges))
    app.add_route("/devices/register", DeviceRegistrationResource(devices, origins, registrations))
    app.add_route("/devices/unregister", DeviceUnregistrationResource(devices, origins, registrations))
    requests = SignedRequests(servers, shares, failures, addresses, rejections)
    app.add_route("/servers/register", ServerRegistrationResource(servers, requests, failures))
    app.add_route("/push", PushesResource(requests, pushes, traces))
    app.add_route("/push/outcomes", PushOutcomesResource(requests, pushes))
    histories = Histories(registry=registry, shares=shares, clock=clock)
    app.add_route("/push/history", PushHistoryResource(requests, histories))


def _metrics(snapshot: Snapshot, gauges: _RegistryGauges, lifecycle: WorkerLifecycle) -> Metrics | None:
    if snapshot.config.telemetry == "none":
        return None
    # Not at the top: the master imports this module, and only workers may import metrics.
    from relay.metrics import Metrics

    return Metrics(
        version=__version__,
        memory=lifecycle.metrics,
        figures=gauges.read,
        processes=lifecycle.process_figures,
    )


def _push_traces(tracer: Tracer | None) -> PushTraces | None:
    if tracer is None:
        return None
    # Here and below: OpenTelemetry loads only where traces are exported.
    from relay.tracing import PushTraces

    return PushTraces(tracer)


def _request_traces(tracer: Tracer) -> object:
    from relay.tracing import ROUTES
    from sigil.serving.tracing.requests import RequestTraces

    return RequestTraces(tracer, ROUTES)


def _frame_encoder(sealer: Sealer) -> Callable[[Push], str | None]:
    """Encodes a queued push as the text frame for its device: the payload with `push_id`."""

    def frame(push: Push) -> str | None:
        new = push.push
        payload = msgspec.json.decode(sealer.open("payload", new.fingerprint, "", new.payload))
        return msgspec.json.encode({**payload, "push_id": new.push_id.hex()}).decode()

    return frame


def _delivery_observer(metrics: Metrics | None, clock: Callable[[], float]) -> Callable[[Push], None]:
    def delivered(push: Push) -> None:
        if metrics:
            metrics.delivered(max(0.0, clock() - push.created_at))

    return delivered


def _health_check(database: DatabaseWatch, lifecycle: WorkerLifecycle) -> Callable[[], Awaitable[str | None]]:
    async def check() -> str | None:
        if lifecycle.stopping:
            return "the relay is stopping"
        return None if await database.check() else "the database cannot be reached"

    return check


class _RegistryGauges:
    """Gauges read from the registry at a scrape, which runs in a thread of its own."""

    def __init__(
        self, registry: Registry, database: DatabaseWatch, max_devices: int, clock: Callable[[], float]
    ) -> None:
        self._registry = registry
        self._database = database
        self._max_devices = max_devices
        self._clock = clock
        self.loop: asyncio.AbstractEventLoop | None = None

    def read(self) -> Iterator[Any]:
        from prometheus_client.metrics_core import GaugeMetricFamily

        if self.loop is None:
            return
        counting = asyncio.run_coroutine_threadsafe(self._count(), self.loop)
        try:
            counted = counting.result(_GAUGES_SECONDS)
        except TimeoutError:
            counting.cancel()
            counted = None
        yield GaugeMetricFamily("relay_database_up", "1 while the database answers.", value=counted is not None)
        if counted is None:
            return
        devices, backlog, due = counted
        counts = GaugeMetricFamily("relay_devices", "Registrations by platform.", labels=["platform"])
        for platform, count in devices.items():
            counts.add_metric([platform], count)
        yield counts
        yield GaugeMetricFamily("relay_devices_limit", "RELAY_MAX_DEVICES.", value=self._max_devices)
        yield GaugeMetricFamily("relay_pushes_queued", "Pushes without a final status.", value=backlog)
        yield GaugeMetricFamily(
            "relay_push_queue_oldest_seconds",
            "For how long the push to a provider that waits longest has been due.",
            value=0.0 if due is None else max(0.0, self._clock() - due),
        )

    async def _count(self) -> tuple[dict[str, int], int, float | None] | None:
        """None while the database does not answer."""
        if not await self._database.check():
            return None
        try:
            registry = self._registry
            return await registry.count_devices(), await registry.backlog(), await registry.first_due()
        except RegistryBusy:
            return None


async def _registry_busy(_req: object, resp: falcon.asgi.Response, _error: RegistryBusy, _params: object) -> None:
    responses.write_problem(resp, Overloaded(retry_after=2))


class _Lifespan:
    """Falcon middleware: starts and stops the components of the worker."""

    def __init__(
        self,
        *,
        dependencies: Dependencies,
        loops: Loops,
        dispatch: Dispatch,
        sockets: DeviceConnections,
        listener: SocketListener | None,
        lifecycle: WorkerLifecycle,
        gauges: _RegistryGauges,
    ) -> None:
        self._tracer = dependencies.tracer
        self._registry = dependencies.registry
        self._loops = loops
        self._dispatch = dispatch
        self._sockets = sockets
        self._listener = listener
        self._lifecycle = lifecycle
        self._gauges = gauges
        self._draining: asyncio.Task[None] | None = None

    async def process_startup(self, _scope: object, _event: object) -> None:
        self._gauges.loop = asyncio.get_running_loop()
        try:
            await self._registry.open(self._sockets.on_notification)
        except RegistryUnusable as error:
            # Its text is for the operator, and that of a StartupError alone is logged.
            raise StartupError(str(error)) from error
        self._dispatch.open()
        self._loops.start()
        self._lifecycle.on_drain(self._drain)
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
        began = time.monotonic()
        if self._draining is not None:
            await self._draining
        await self._loops.stop()
        await self._dispatch.close()
        await self._registry.close()
        if self._tracer is not None:
            # Nearly all of it was exported during the drain. All together stays within the time of a stop.
            await self._tracer.finish(max(0.2, FLUSH_SECONDS - (time.monotonic() - began)))
