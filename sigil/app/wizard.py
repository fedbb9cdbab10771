"""The composition root of init mode: a worker serves the wizard, and becomes operational after the commit."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import falcon.asgi
from falcon.asgi import Request, Response

from sigil import __version__
from sigil.app.operational import App, Snapshot, add_assets, address_rate_limit, client_addresses, metrics_guard
from sigil.app.operational import create_app as create_operational_app
from sigil.app.status_page import status_page
from sigil.config.settings import Config
from sigil.first_boot.commitment import VaultUnusable
from sigil.first_boot.marker import Marker, MarkerUnusable
from sigil.first_boot.service import FirstBoot
from sigil.first_boot.vault import FileVault
from sigil.protocol.errors import Overloaded
from sigil.protocol.identity import ServerIdentity
from sigil.protocol.messages.first_boot import InfoBeforeInit
from sigil.resources.first_boot import (
    InitCheckResource,
    InitCommitResource,
    InitStateResource,
    InitWordsResource,
    NotInitializedResource,
    WizardGuard,
)
from sigil.resources.openapi import document
from sigil.resources.origin_check import OriginCheck
from sigil.resources.pages import PageFiles, PageResource, WizardRedirectResource
from sigil.resources.server import HealthResource, InfoResource
from sigil.serving import logs
from sigil.serving.http import responses
from sigil.serving.http.asgi_edge import AsgiEdge
from sigil.serving.http.bearer_token import BearerTokenGuard, equals, guess_limit
from sigil.serving.http.body_admission import BodyAdmission
from sigil.serving.http.middleware import ResponseMiddleware
from sigil.serving.http.rate_limits import AddressRateLimit
from sigil.serving.process.app_handover import AppHandover, AsgiApp
from sigil.serving.process.lifecycle import WorkerLifecycle
from sigil.serving.settings import Secret
from sigil.serving.startup_error import StartupError
from sigil.store.steady_clock import SharedOffset, SteadyClock

if TYPE_CHECKING:
    from sigil.serving.http.metrics import HttpMetrics
    from sigil.telemetry.metrics import InitMetrics

_VAULT_UNUSABLE = "The server cannot use its state directory: its log has the cause. Nothing was set up."
_SERVED_PATHS = frozenset({"/health", "/info", "/init/state", "/init/words", "/init/check", "/init/commit"})


@dataclass(frozen=True, repr=False)
class InitSnapshot:
    """What the master hands to each worker while there is no identity.

    `token`: the setup token that the wizard requires, None for no token; `expected`: the only server_id that may be
    restored, None for any; `loopback_only`: whether only this host reaches the listener.
    """

    config: Config
    token: Secret | None
    expected: str | None
    loopback_only: bool


def vault_of(config: Config) -> FileVault:
    return FileVault(config.state_dir)


def marker_of(config: Config) -> Marker:
    return Marker(config.tls_cert.parent)


def create_app(snapshot: InitSnapshot, life: WorkerLifecycle) -> AsgiApp:
    """The application of one worker process, for Granian."""
    config, vault = snapshot.config, vault_of(snapshot.config)
    if vault.is_committed():
        return create_initialized_app(snapshot, life)
    metrics = None
    if config.telemetry != "none":
        # Imported here: the master imports this module and the metrics exist in workers only.
        from sigil.telemetry.metrics import InitMetrics

        metrics = InitMetrics(version=__version__, memory=life.metrics, processes=life.process_figures)
    return AppHandover(
        build_wizard(snapshot, vault, life, now=SteadyClock(SharedOffset(config.state_dir)), metrics=metrics),
        due=vault.is_committed,
        next_app=lambda: create_initialized_app(snapshot, life, metrics.http if metrics else None),
        failed=lambda: signal.raise_signal(signal.SIGTERM),
    )


def create_initialized_app(snapshot: InitSnapshot, life: WorkerLifecycle, http: HttpMetrics | None = None) -> AsgiApp:
    """The operational application of the committed identity; `http`: the metrics of init mode, if it came before.

    Raises StartupError without one: a server that had an identity must not offer the wizard because a file is missing.
    """
    config, vault = snapshot.config, vault_of(snapshot.config)
    commitment = vault.read()
    if commitment is None:
        raise StartupError(
            f"SIGIL_STATE_DIR {config.state_dir}: the committed identity is missing; restart the server and run the "
            "wizard again"
        )
    vault.remove_temporary_files()
    # The worker that committed the identity may have died before it wrote the marker.
    _write_marker(config, ServerIdentity.from_secrets(commitment.secrets).server_id)
    return create_operational_app(Snapshot(config, commitment.secrets, commitment.session), life, http)


def _write_marker(config: Config, server_id: str) -> None:
    """Make a later init mode on the same volume accept no other identity. Failures are only logged."""
    try:
        marker_of(config).write_if_absent(server_id)
    except MarkerUnusable as error:
        logs.warn("marker_not_written", reason=str(error))


def _expected_server_id(snapshot: InitSnapshot) -> str | None:
    try:
        return marker_of(snapshot.config).read() or snapshot.expected
    except MarkerUnusable as error:
        raise StartupError(str(error)) from error


def build_wizard(
    snapshot: InitSnapshot,
    vault: FileVault,
    life: WorkerLifecycle,
    *,
    monotonic: Callable[[], float] = time.monotonic,
    now: Callable[[], float] = time.time,
    metrics: InitMetrics | None = None,
) -> AsgiEdge:
    """The application that serves the wizard. `monotonic` is the clock of the limit on token guesses, in seconds; `now`
    that of the session, in Unix seconds.
    """
    config = snapshot.config
    addresses = client_addresses(config)
    life.connections.address_of = addresses.of_connection
    rate_limit = address_rate_limit(config, addresses)
    guard = WizardGuard(
        _origin_check(snapshot), _token_guard(snapshot, guess_limit(addresses, config.workers, monotonic)), rate_limit
    )
    first_boot = FirstBoot(
        vault=vault,
        # Read again, because a worker may be restarted after the commitment was lost.
        expected=_expected_server_id(snapshot),
        on_commit=lambda server_id: _write_marker(config, server_id),
        key_prefix=config.key_prefix,
        tls_cert_path=None if config.http_only else str(config.tls_cert.absolute()),
        clock=now,
        randomness=os.urandom,
    )
    app: App = falcon.asgi.App(middleware=[ResponseMiddleware(metrics.http if metrics else None, hsts=life.hsts)])
    responses.handle_errors(app, lambda problem: None)
    app.add_error_handler(VaultUnusable, _answer_vault_failure)
    _add_wizard_routes(app, first_boot, guard, config)
    _add_server_routes(app, config, rate_limit, life)
    _add_page_routes(app, config)
    served = _SERVED_PATHS
    if metrics is not None:
        metrics.http.observe_connections(life.connections)
        metrics.http.observe_addresses(addresses)
        app.add_route("/metrics", metrics.resource(metrics_guard(config, addresses)))
        served |= {"/metrics"}
    for path in document.paths():
        if path not in served:
            app.add_route(path, NotInitializedResource())
    return AsgiEdge(app, BodyAdmission(), addresses)


def _origin_check(snapshot: InitSnapshot) -> OriginCheck:
    return OriginCheck(
        scheme=snapshot.config.scheme,
        public_url=snapshot.config.public_url,
        any_name=snapshot.token is not None,
        loopback_only=snapshot.loopback_only,
        names=frozenset({"localhost"} if snapshot.loopback_only else {"localhost", socket.gethostname().lower()}),
    )


def _token_guard(snapshot: InitSnapshot, guesses: AddressRateLimit) -> BearerTokenGuard:
    message = "Send the setup token from the server's log as 'Authorization: Bearer <token>'."
    return BearerTokenGuard(equals(snapshot.token.reveal()) if snapshot.token else None, guesses, message)


def _add_wizard_routes(app: App, first_boot: FirstBoot, guard: WizardGuard, config: Config) -> None:
    state = InitStateResource(
        first_boot, guard, server_name=config.server_name, scheme=config.scheme, public_url=config.public_url
    )
    app.add_route("/init/state", state)
    app.add_route("/init/words", InitWordsResource(first_boot, guard))
    app.add_route("/init/check", InitCheckResource(first_boot, guard))
    app.add_route("/init/commit", InitCommitResource(first_boot, guard))


def _add_server_routes(app: App, config: Config, rate_limit: AddressRateLimit, life: WorkerLifecycle) -> None:
    async def fault() -> str | None:
        return "the server is stopping" if life.stopping else None

    info = InfoBeforeInit(server_name=config.server_name, version=__version__, mode="init")
    app.add_route("/health", HealthResource(__version__, fault, "init"))
    app.add_route("/info", InfoResource(info, rate_limit))


def _add_page_routes(app: App, config: Config) -> None:
    pages = PageFiles.load()
    redirect = WizardRedirectResource()
    add_assets(app, pages)
    app.add_route("/", redirect)
    app.add_route("/init", PageResource(pages.fill("init.html", {"server_name": config.server_name, "setup": "open"})))
    app.add_route("/status", status_page(config, pages))
    app.add_sink(redirect.sink)


async def _answer_vault_failure(_req: Request, resp: Response, error: Exception, _params: object) -> None:
    logs.error("vault_failed", exc=error, reason=str(error))
    responses.write_problem(resp, Overloaded(_VAULT_UNUSABLE, retry_after=5))
