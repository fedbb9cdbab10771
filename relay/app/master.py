"""The master process of `sigil-relay serve`: it checks everything before a worker starts, and reports each fault in one
line."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace

from relay import __version__
from relay.app.checks import check_socket_port
from relay.app.wiring import Snapshot, create_app, open_registry
from relay.config import SECRETS, Config, load, load_renewed
from relay.registration.nonces import derive_secret
from relay.registry.model import PROVIDERS, RegistryBusy, RegistryUnusable
from relay.registry.port import Registry
from relay.registry.sqlite.lock import exclusive
from sigil.serving import logs
from sigil.serving.addresses.gateways import gateway_warnings
from sigil.serving.cloudflare.feed import feed_for
from sigil.serving.connections.limits import ConnectionLimits
from sigil.serving.inherited import clean_start, signals
from sigil.serving.process.master import ServerLimits, serve
from sigil.serving.process.memory_protection import forbid_core_dumps
from sigil.serving.settings import ConfigError
from sigil.serving.startup_error import StartupError

# Of the descriptors; the port of WebSockets takes half of them (relay/sockets/connection_limit.py).
_MAIN_PORT_SHARE = 0.375


def run() -> int:
    """Serve until a signal ends it; the exit code. Raises ConfigError and StartupError before anything runs."""
    signals.set_for_master()
    state = clean_start.received()
    if not isinstance(state, _Settings):
        environ = dict(os.environ)
        state = _Settings(load(environ), environ)
        logs.configure("relay", logs.stricter(state.config.log_level, state.config.telemetry))
        clean_start.restart(state, forget=SECRETS)
    return _serve(state.config, state.environ)


@dataclass(frozen=True, repr=False)
class _Settings:
    """All that the environment holds."""

    config: Config
    environ: Mapping[str, str]


def _serve(config: Config, environ: Mapping[str, str]) -> int:
    forbid_core_dumps()
    logs.configure("relay", logs.stricter(config.log_level, config.telemetry))
    _log_settings(config)
    with _lock(config):
        check_socket_port(config)
        migrate(open_registry(config, "sigil-relay start"))
        snapshot = Snapshot(config, nonce_secret(config))
        logs.info(
            "relay_starting",
            version=__version__,
            workers=config.workers,
            database="postgresql" if config.database_url else "sqlite",
            providers=[*config.providers, "websocket"],
        )
        return serve(
            factory=create_app,
            settings=snapshot,
            host=config.host,
            port=config.port,
            port_setting="RELAY_PORT",
            tls=None,
            workers=config.workers,
            state_dir=None,
            reload=lambda: _reload(environ, snapshot),
            service="relay",
            log_level=logs.stricter(config.log_level, config.telemetry),
            metrics=config.telemetry != "none",
            feed=feed_for(config.proxies),
            limits=ServerLimits(connections=ConnectionLimits(share=_MAIN_PORT_SHARE)),
        )


@contextmanager
def _lock(config: Config) -> Iterator[None]:
    """One relay at a time on a SQLite file; StartupError."""
    if config.database_url is not None:
        yield
        return
    with ExitStack() as stack:
        try:
            stack.enter_context(exclusive(config.data_dir))
        except RegistryUnusable as error:
            raise StartupError(str(error)) from error
        yield


def nonce_secret(config: Config) -> bytes:
    """Equal in all workers and, with TOKEN_ENCRYPTION_KEY, in all replicas and after a restart."""
    if config.encryption_keys:
        return derive_secret(config.encryption_keys[0].reveal().encode())
    return os.urandom(32)


def migrate(registry: Registry) -> None:
    """Migrate the database to this version, once, before workers open it; StartupError."""

    async def open_and_close() -> None:
        await registry.open(lambda channel, data: None)
        await registry.close()

    try:
        asyncio.run(open_and_close())
    except (RegistryUnusable, RegistryBusy) as error:
        raise StartupError(str(error) or "the database cannot be reached") from error


def _log_settings(config: Config) -> None:
    for line in [*config.warnings, *gateway_warnings(config.proxies)]:
        logs.warn("setting", message=line)
    if config.database_url is None:
        logs.warn(
            "embedded_database",
            path=config.database_file,
            message="SQLite, and one worker: set DATABASE_URL=postgresql://… for production",
        )
    if config.public_url is None:
        logs.warn(
            "no_public_url",
            message="RELAY_PUBLIC_URL is not set: the origin in signatures of devices is compared with the Host header",
        )
    for platform in PROVIDERS:
        if platform not in config.providers and not config.push_console:
            logs.info("provider_off", provider=platform, message="no credentials: its pushes fail")
    if config.push_console:
        logs.warn("push_console_on", message="RELAY_PUSH_CONSOLE prints pushes instead of sending them")


def _reload(environ: Mapping[str, str], running: Snapshot) -> tuple[Snapshot, None]:
    """SIGHUP reloads trusted servers and provider credentials. All other settings stay as they were at start."""
    try:
        renewed = load_renewed(environ)
    except ConfigError as error:
        raise StartupError("; ".join(error.lines)) from error
    for line in renewed.warnings:
        logs.warn("setting", message=line)
    kept = replace(
        running.config,
        trusted_servers=renewed.trusted_servers,
        apns=renewed.apns,
        fcm=renewed.fcm,
        webpush=renewed.webpush,
    )
    return replace(running, config=kept), None
