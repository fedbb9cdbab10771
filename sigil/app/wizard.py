"""The composition root of init mode: a worker that serves the wizard, and becomes operational when it is committed."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass

import falcon.asgi
from falcon.asgi import Request, Response

from sigil import __version__
from sigil.app.operational import App, Snapshot, add_assets, addresses_of, strangers_of
from sigil.app.operational import create_app as create_operational_app
from sigil.config.settings import Config
from sigil.first_boot.commitment import VaultUnusable
from sigil.first_boot.marker import Marker, MarkerUnusable
from sigil.first_boot.service import FirstBoot
from sigil.first_boot.vault import FileVault
from sigil.protocol.errors import Overloaded
from sigil.protocol.first_boot_messages import InfoBeforeInit
from sigil.protocol.identity import ServerIdentity
from sigil.resources.first_boot import (
    InitCheck,
    InitCommit,
    InitMnemonic,
    InitStateResource,
    NotInitializedResource,
    WizardGuard,
)
from sigil.resources.openapi import document
from sigil.resources.origin_check import OriginCheck
from sigil.resources.pages import Page, PageFiles, WizardRedirect
from sigil.resources.server import HealthResource, ServerInfo
from sigil.serving import logs
from sigil.serving.http import responses
from sigil.serving.http.asgi_edge import Edge
from sigil.serving.http.bearer_token import BearerTokenGuard, guesses_of, same_as
from sigil.serving.http.body_admission import BodyAdmission
from sigil.serving.http.middleware import ResponseMiddleware
from sigil.serving.http.rate_limits import AddressRateLimit
from sigil.serving.process.app_handover import AppHandover, AsgiApp
from sigil.serving.process.memory_protection import forbid_core_dumps
from sigil.serving.process.worker import WorkerLifecycle
from sigil.serving.settings import Secret
from sigil.serving.startup_error import StartupError

_SERVED = frozenset({"/health", "/info", "/init/state", "/init/words", "/init/check", "/init/commit"})


@dataclass(frozen=True, repr=False)
class InitSnapshot:
    """What the master hands to each worker while there is no identity.

    `token`: what the wizard asks for, if anything; `expected`: the server_id that alone may be restored;
    `loopback_only`: whether this host alone reaches the listener.
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
    # Words pass through here, if only for a moment each time.
    forbid_core_dumps()
    if config.telemetry != "none":
        # Now, and not while requests wait for it.
        import sigil.telemetry.metrics  # noqa: F401
    return AppHandover(
        build(snapshot, vault, life),
        due=vault.is_committed,
        next_app=lambda: create_initialized_app(snapshot, life),
        failed=lambda: signal.raise_signal(signal.SIGTERM),
    )


def create_initialized_app(snapshot: InitSnapshot, life: WorkerLifecycle) -> AsgiApp:
    """The operational application of the identity that was committed. Without one it refuses: a server that had an
    identity offers no wizard because a file is gone.
    """
    config, vault = snapshot.config, vault_of(snapshot.config)
    commitment = vault.read()
    if commitment is None:
        raise StartupError(f"SIGIL_STATE_DIR {config.state_dir}: the identity that was committed to it is gone")
    vault.sweep()
    # Whoever committed it may have died before it did so.
    _leave_marker(config, ServerIdentity.from_secrets(commitment.secrets).server_id)
    return create_operational_app(Snapshot(config, commitment.secrets, commitment.session), life)


def _leave_marker(config: Config, server_id: str) -> None:
    """So that a later init mode on the same volume accepts no other identity; not worth an outage."""
    try:
        marker_of(config).leave(server_id)
    except MarkerUnusable as error:
        logs.warn("marker_not_written", reason=str(error))


def _expected(snapshot: InitSnapshot) -> str | None:
    try:
        return marker_of(snapshot.config).read() or snapshot.expected
    except MarkerUnusable as error:
        raise StartupError(str(error)) from error


def build(
    snapshot: InitSnapshot, vault: FileVault, life: WorkerLifecycle, monotonic: Callable[[], float] = time.monotonic
) -> Edge:
    """The wizard; `monotonic` gives the seconds in which guesses are counted."""
    config = snapshot.config
    addresses = addresses_of(config)
    strangers = strangers_of(config, addresses)
    doors = WizardGuard(
        _own_page(snapshot), _token_door(snapshot, guesses_of(addresses, config.workers, monotonic)), strangers
    )
    boot = FirstBoot(
        vault=vault,
        # Read anew: of a worker that is started again after the commitment was lost, too.
        expected=_expected(snapshot),
        committed=lambda server_id: _leave_marker(config, server_id),
        key_prefix=config.key_prefix,
        tls_cert_path=None if config.http_only else str(config.tls_cert.absolute()),
        clock=time.time,
        randomness=os.urandom,
    )
    app: App = falcon.asgi.App(middleware=[ResponseMiddleware(None)])
    responses.handle_errors(app, lambda problem: None)
    app.add_error_handler(VaultUnusable, _vault_failed)
    _add_wizard(app, boot, doors, config)
    _add_open(app, config, strangers, life)
    _add_pages(app, config)
    for path in document.paths():
        if path not in _SERVED:
            app.add_route(path, NotInitializedResource())
    return Edge(app, BodyAdmission(), addresses)


def _own_page(snapshot: InitSnapshot) -> OriginCheck:
    return OriginCheck(
        scheme=snapshot.config.scheme,
        public_url=snapshot.config.public_url,
        any_name=snapshot.token is not None,
        loopback_only=snapshot.loopback_only,
        names=frozenset({"localhost"} if snapshot.loopback_only else {"localhost", socket.gethostname().lower()}),
    )


def _token_door(snapshot: InitSnapshot, guesses: AddressRateLimit) -> BearerTokenGuard:
    told = "Send the token of the server's log as 'Authorization: Bearer <token>'."
    return BearerTokenGuard(same_as(snapshot.token.reveal()) if snapshot.token else None, guesses, told)


def _add_wizard(app: App, boot: FirstBoot, doors: WizardGuard, config: Config) -> None:
    state = InitStateResource(
        boot, doors, server_name=config.server_name, scheme=config.scheme, public_url=config.public_url
    )
    app.add_route("/init/state", state)
    app.add_route("/init/words", InitMnemonic(boot, doors))
    app.add_route("/init/check", InitCheck(boot, doors))
    app.add_route("/init/commit", InitCommit(boot, doors))


def _add_open(app: App, config: Config, strangers: AddressRateLimit, life: WorkerLifecycle) -> None:
    async def fault() -> str | None:
        return "the server is stopping" if life.stopping else None

    info = InfoBeforeInit(server_name=config.server_name, version=__version__, mode="init")
    app.add_route("/health", HealthResource(__version__, fault, "init"))
    app.add_route("/info", ServerInfo(info, strangers))


def _add_pages(app: App, config: Config) -> None:
    pages = PageFiles.load()
    to_the_wizard = WizardRedirect()
    add_assets(app, pages)
    app.add_route("/", to_the_wizard)
    app.add_route("/init", Page(pages.fill("init.html", {"server_name": config.server_name})))
    app.add_sink(to_the_wizard.sink)


async def _vault_failed(_req: Request, resp: Response, error: Exception, _params: object) -> None:
    logs.error("vault_failed", exc=error, reason=str(error))
    responses.write_problem(resp, Overloaded(retry_after=5))
