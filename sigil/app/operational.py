"""The composition root: builds and wires every part of the operational server."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import falcon.asgi

from sigil import __version__
from sigil.app.home import home_resource
from sigil.app.loops import Loops
from sigil.app.services import Dependencies, build_services
from sigil.app.state import open_store
from sigil.app.status_page import status_page
from sigil.attestation.policy import AttestationPolicy
from sigil.config.settings import Config
from sigil.core.approvals.approval import APPROVAL
from sigil.core.challenge import CHALLENGE
from sigil.core.session_store import SessionStore, StoreFull, StoreUnusable
from sigil.first_boot.commitment import Session
from sigil.first_boot.service import ApiKeyIssuer
from sigil.protocol.api_key import KeyRing
from sigil.protocol.errors import Overloaded
from sigil.protocol.identity import DerivedSecrets, ServerIdentity
from sigil.protocol.messages.server import AcceptedAttestation, Features, Info
from sigil.resources import device_app
from sigil.resources.api_key_auth import ApiKeyAuth
from sigil.resources.approvals import (
    ApprovalRequestResource,
    ApprovalRequestsResource,
    ApprovalResponseResource,
    ApprovalStatusResource,
)
from sigil.resources.attestation import AttestChallengeResource, AttestDeviceResource
from sigil.resources.challenges import (
    ChallengeResource,
    ChallengeResponseResource,
    ChallengesResource,
    ChallengeStatusResource,
)
from sigil.resources.enrolment import (
    EnrolmentClaimResource,
    EnrolmentCompletionResource,
    EnrolmentConfirmationResource,
    EnrolmentResource,
    EnrolmentsResource,
    EnrolmentStatusResource,
    EnrolmentWaitResource,
)
from sigil.resources.first_boot import (
    InitApiKeysResource,
    InitCommitConflictResource,
    InitFirstChallengeResource,
    WizardGuard,
)
from sigil.resources.inbox import PendingResource
from sigil.resources.openapi.document import OpenApiResource
from sigil.resources.origin_check import OriginCheck
from sigil.resources.pages import AssetsResource, NotFoundPageResource, PageFiles, home_page_values
from sigil.resources.server import HealthResource, InfoResource
from sigil.serving import logs
from sigil.serving.http import responses
from sigil.serving.http.asgi_edge import AsgiEdge
from sigil.serving.http.bearer_token import BearerTokenGuard, guess_limit
from sigil.serving.http.body_admission import BodyAdmission
from sigil.serving.http.client_address import ClientAddresses
from sigil.serving.http.metrics_access import MetricsGuard
from sigil.serving.http.middleware import ResponseMiddleware
from sigil.serving.http.rate_limits import AddressBuckets, AddressRateLimit
from sigil.serving.process.lifecycle import WorkerLifecycle
from sigil.serving.tracing.in_worker import FLUSH_SECONDS, tracer_of_worker
from sigil.sessions.long_polls import LongPolls
from sigil.telemetry.null_metrics import NullMetrics

if TYPE_CHECKING:
    from sigil.serving.http.metrics import HttpMetrics
    from sigil.serving.tracing.tracer import Tracer
    from sigil.telemetry.metrics import Metrics

App = falcon.asgi.App[Any, Any]
TRACED = (
    ("POST", "/challenge"),
    ("DELETE", "/v1/auth/challenge/{challenge_id}"),
    ("POST", "/respond"),
    ("POST", "/mpa/request"),
    ("DELETE", "/mpa/request/{request_id}"),
    ("POST", "/mpa/respond"),
    ("POST", "/enrolment"),
    ("POST", "/enrolment/claim"),
    ("POST", "/enrolment/complete"),
    ("POST", "/enrolment/{enrolment_id}/confirm"),
    ("DELETE", "/enrolment/{enrolment_id}"),
)
"""Requests with spans: those that change a challenge, a request for approval or an enrolment. Queries would outnumber
them by far.
"""
ATTESTATIONS_PER_MINUTE = 30
"""Per address: each is a chain of certificates to verify."""
_STORE_UNUSABLE = "The server cannot use its session store: its log has the cause. It may need a restart."


@dataclass(frozen=True, repr=False)
class Snapshot:
    """What the master passes to each worker: the settings without the mnemonic, and the secrets derived from it."""

    config: Config
    secrets: DerivedSecrets
    # The wizard session that initialized the server, if that happened in this run of the master.
    session: Session | None = None


def create_app(snapshot: Snapshot, lifecycle: WorkerLifecycle, http: HttpMetrics | None = None) -> AsgiEdge:
    """The application of one worker process, for Granian; `http`: the metrics of init mode, if it came before."""
    config = snapshot.config
    store = open_store(config, lifecycle.writing)
    long_polls = LongPolls(share=config.key_share)
    lifecycle.on_drain(long_polls.drain)
    metrics = _metrics(config, store, long_polls, lifecycle, http)
    tracer = tracer_of_worker(config.tracing, "sigil", __version__, lifecycle)
    parts = Dependencies(
        store=store, long_polls=long_polls, metrics=metrics, saw_relay=lifecycle.saw_peer, tracer=tracer
    )
    return build(snapshot, parts, lifecycle)


def _metrics(
    config: Config,
    store: SessionStore,
    long_polls: LongPolls,
    lifecycle: WorkerLifecycle,
    http: HttpMetrics | None,
) -> Metrics | NullMetrics:
    if config.telemetry == "none":
        return NullMetrics()
    # Imported here: the master imports this module and the metrics exist in workers only.
    from sigil.telemetry.metrics import Metrics

    metrics = Metrics(
        store,
        version=__version__,
        memory=lifecycle.metrics,
        processes=lifecycle.process_figures,
        http=http,
    )
    long_polls.on_change = metrics.set_long_polls
    long_polls.on_refusal = metrics.count_refused_long_poll
    return metrics


def build(snapshot: Snapshot, dependencies: Dependencies, lifecycle: WorkerLifecycle) -> AsgiEdge:
    """The whole application with the given dependencies."""
    config = snapshot.config
    identity = ServerIdentity.from_secrets(snapshot.secrets)
    keys = KeyRing(
        identity.api_key_secret,
        preset=[key.reveal() for key in config.preset_keys],
        revoked=config.revoked_keys,
        live_only=config.live_keys,
    )
    addresses = client_addresses(config)
    lifecycle.connections.address_of = addresses.of_connection
    if dependencies.metrics.http is not None:
        dependencies.metrics.http.observe_connections(lifecycle.connections)
        dependencies.metrics.http.observe_addresses(addresses)
    rate_limit = address_rate_limit(config, addresses)
    callers = ApiKeyAuth(keys, rate_limit)
    services = build_services(config, identity, dependencies)
    app: App = falcon.asgi.App(
        middleware=[
            _WorkerMiddleware(services.loops, dependencies.store, dependencies.tracer),
            ResponseMiddleware(dependencies.metrics.http, hsts=lifecycle.hsts),
        ]
    )
    if dependencies.tracer is not None:
        _add_traces(app, dependencies.tracer)
    responses.handle_errors(app, dependencies.metrics.problem)
    app.add_error_handler(StoreFull, _store_failed)
    app.add_error_handler(StoreUnusable, _store_failed)
    challenges, approvals = services.challenges, services.approvals
    app.add_route("/challenge", ChallengesResource(challenges, callers))
    app.add_route("/v1/auth/challenge/{challenge_id}", ChallengeResource(challenges, callers))
    app.add_route("/v1/auth/challenge/{challenge_id}/status", ChallengeStatusResource(challenges, callers))
    app.add_route("/respond", ChallengeResponseResource(challenges, rate_limit))
    app.add_route("/mpa/request", ApprovalRequestsResource(approvals, callers))
    app.add_route("/mpa/request/{request_id}", ApprovalRequestResource(approvals, callers))
    app.add_route("/mpa/status/{request_id}", ApprovalStatusResource(approvals, callers))
    app.add_route("/mpa/respond", ApprovalResponseResource(approvals, rate_limit))
    enrolments = services.enrolments
    app.add_route("/enrolment", EnrolmentsResource(enrolments, callers, config.scheme))
    app.add_route("/enrolment/claim", EnrolmentClaimResource(enrolments, rate_limit))
    app.add_route("/enrolment/complete", EnrolmentCompletionResource(enrolments, rate_limit))
    app.add_route("/enrolment/wait", EnrolmentWaitResource(enrolments, rate_limit))
    app.add_route("/enrolment/{enrolment_id}", EnrolmentResource(enrolments, callers))
    app.add_route("/enrolment/{enrolment_id}/confirm", EnrolmentConfirmationResource(enrolments, callers))
    app.add_route("/enrolment/{enrolment_id}/status", EnrolmentStatusResource(enrolments, callers))
    app.add_route("/device/pending", PendingResource(services.inbox, rate_limit))
    if services.attestation.enabled:
        attestations = AddressRateLimit(addresses, AddressBuckets.of_worker(ATTESTATIONS_PER_MINUTE, config.workers))
        app.add_route("/device/attest/challenge", AttestChallengeResource(services.attestation, rate_limit))
        app.add_route("/device/attest", AttestDeviceResource(services.attestation, rate_limit, attestations))
    app.add_route("/health", HealthResource(__version__, _health_check(dependencies, lifecycle)))
    app.add_route("/info", InfoResource(_info(config, identity), rate_limit))
    app.add_route("/openapi.json", OpenApiResource(__version__, rate_limit))
    if not isinstance(dependencies.metrics, NullMetrics):
        app.add_route("/metrics", dependencies.metrics.resource(metrics_guard(config, addresses)))
    _add_pages(app, config, identity, dependencies)
    if snapshot.session is not None:
        _add_init_mode_routes(app, snapshot, snapshot.session, dependencies, addresses=addresses, rate_limit=rate_limit)
    return AsgiEdge(app, BodyAdmission(), addresses)


def _add_traces(app: App, tracer: Tracer) -> None:
    # Imported here: OpenTelemetry loads only where traces are exported.
    from sigil.serving.tracing.requests import RequestTraces

    app.add_middleware(RequestTraces(tracer, TRACED))


def _add_pages(app: App, config: Config, identity: ServerIdentity, dependencies: Dependencies) -> None:
    pages = PageFiles.load()
    values = home_page_values(identity, config.server_name, __version__)
    add_assets(app, pages)
    if config.device_app_origin is not None:
        device_app.add_routes(
            app,
            pages,
            server_name=config.server_name,
            version=__version__,
            relay_origin=config.relay_public_url if config.relay_url else None,
        )
    app.add_route("/status", status_page(config, pages))
    app.add_route("/", home_resource(config, pages, values, dependencies.store, dependencies.run))
    closed = pages.fill("init.html", {"server_name": config.server_name, "setup": "closed"})
    app.add_sink(NotFoundPageResource(pages.fill("not_found.html", values), {"/init": closed}).sink)


def add_assets(app: App, pages: PageFiles) -> None:
    assets = AssetsResource(pages)
    app.add_route("/assets/{path:path}", assets)
    app.add_route("/favicon.ico", assets)


def _add_init_mode_routes(
    app: App,
    snapshot: Snapshot,
    session: Session,
    dependencies: Dependencies,
    *,
    addresses: ClientAddresses,
    rate_limit: AddressRateLimit,
) -> None:
    config = snapshot.config
    issuer = ApiKeyIssuer(
        api_key_secret=snapshot.secrets.api_key,
        session=session,
        prefix=config.key_prefix,
        clock=dependencies.store.now,
        randomness=dependencies.randomness,
    )
    # Any host name is accepted: the request must carry the token of the wizard session.
    origin_check = OriginCheck(scheme=config.scheme, public_url=config.public_url, any_name=True, loopback_only=False)
    hint = "Only the wizard page that initialized this server may issue API keys here, for half an hour."
    guard = WizardGuard(
        origin_check, BearerTokenGuard(issuer.authorises, guess_limit(addresses, config.workers), hint), rate_limit
    )
    app.add_route("/init/api-keys", InitApiKeysResource(issuer, guard))
    app.add_route("/init/first-challenge", InitFirstChallengeResource(_challenge_received(dependencies.store), guard))
    app.add_route("/init/commit", InitCommitConflictResource(issuer))


def _challenge_received(store: SessionStore) -> Callable[[], Awaitable[bool]]:
    """Whether the store holds a challenge or an approval request. The end log would count claims of enrolments, too."""

    async def received() -> bool:
        return bool(store.names(CHALLENGE, b"", 1) or store.names(APPROVAL, b"", 1))

    return received


def metrics_guard(config: Config, addresses: ClientAddresses) -> MetricsGuard:
    return MetricsGuard(config.metrics_token, config.metrics_open, guess_limit(addresses, config.workers))


def client_addresses(config: Config) -> ClientAddresses:
    return ClientAddresses.behind(config.proxies)


def address_rate_limit(config: Config, addresses: ClientAddresses) -> AddressRateLimit:
    return AddressRateLimit(addresses, AddressBuckets.of_worker(config.rate_limit, config.workers))


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
            mpa=True,
            webhooks=config.webhook is not None,
            secure_decrypt=False,
            mnemonic_generation=False,
            attestation=bool(config.attestation.kinds),
            device_app=config.device_app_origin is not None,
            web_plain_keys=config.device_app_origin is not None and config.web_plain_keys,
        ),
        # Where devices register: of no use without a relay.
        relay_url=config.relay_public_url if config.relay_url else None,
        attestation=_accepted_attestation(config.attestation),
    )


def _accepted_attestation(policy: AttestationPolicy) -> AcceptedAttestation | None:
    return AcceptedAttestation(sorted(policy.kinds), policy.required) if policy.kinds else None


def _health_check(dependencies: Dependencies, lifecycle: WorkerLifecycle) -> Callable[[], Any]:
    async def problem() -> str | None:
        if lifecycle.stopping:
            return "the server is stopping"
        if lifecycle.hung_writer():
            return "a worker that does not respond holds the session store; the server restarts it within seconds"
        try:
            await dependencies.store.check()
        except (StoreFull, StoreUnusable) as error:
            logs.error("store_unusable", exc=error, reason=str(error))
            return "the session store cannot be used; the log says why"
        return None

    return problem


async def _store_failed(
    req: falcon.asgi.Request, resp: falcon.asgi.Response, error: Exception, _params: object
) -> None:
    logs.error("store_failed", exc=error, reason=str(error), route=req.uri_template)
    message = _STORE_UNUSABLE if isinstance(error, StoreUnusable) else None
    responses.write_problem(resp, Overloaded(message, retry_after=5))


class _WorkerMiddleware:
    """Falcon middleware: starts the loops of the worker, stops them, and closes its store."""

    def __init__(self, loops: Loops, store: SessionStore, tracer: Tracer | None) -> None:
        self._loops = loops
        self._store = store
        self._tracer = tracer

    async def process_startup(self, _scope: object, _event: object) -> None:
        await self._store.check()
        self._loops.start()

    async def process_shutdown(self, _scope: object, _event: object) -> None:
        began = time.monotonic()
        await self._loops.stop()
        if self._tracer is not None:
            # Nearly all of it was exported during the drain. Both together stay within the time of a stop.
            await self._tracer.finish(max(0.2, FLUSH_SECONDS - (time.monotonic() - began)))
        self._store.close()
