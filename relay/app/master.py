"""The master process of `sigil-relay serve`: everything is checked here, in one line each, before a worker starts."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from relay import __version__
from relay.app.wiring import Snapshot, create_app, open_registry
from relay.config import SECRETS, Config, load, load_renewed
from relay.registration.nonces import derive_secret
from relay.registry.model import RegistryBusy, RegistryUnusable
from relay.registry.port import Registry
from sigil.serving import logs
from sigil.serving.process.master import serve
from sigil.serving.settings import ConfigError
from sigil.serving.startup_error import StartupError


def run() -> int:
    """Serve until a signal ends it; the exit code. Raises ConfigError and StartupError before anything runs."""
    environ = dict(os.environ)
    # Workers inherit the environment, where whoever may look into a process can read it.
    for name in SECRETS:
        os.environ.pop(name, None)
    config = load(environ)
    logs.configure("relay", logs.stricter(config.log_level, config.telemetry))
    _tell(config)
    migrate(open_registry(config, "sigil-relay start"))
    with tempfile.TemporaryDirectory(prefix="relay-", dir=_memory()) as folder:
        snapshot = Snapshot(config, nonce_secret(config), Path(folder))
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
            tls=None,
            workers=config.workers,
            state_dir=snapshot.state_dir,
            reload=lambda: _reload(environ, snapshot),
            service="relay",
            log_level=logs.stricter(config.log_level, config.telemetry),
            metrics=config.telemetry != "none",
        )


def nonce_secret(config: Config) -> bytes:
    """The same in all workers and, with TOKEN_ENCRYPTION_KEY, in all replicas and after a restart."""
    if config.encryption_keys:
        return derive_secret(config.encryption_keys[0].reveal().encode())
    return os.urandom(32)


def migrate(registry: Registry) -> None:
    """Bring the database to this version, once, before workers ask for it; StartupError."""

    async def once() -> None:
        await registry.open(lambda channel, data: None)
        await registry.close()

    try:
        asyncio.run(once())
    except (RegistryUnusable, RegistryBusy) as error:
        raise StartupError(str(error) or "the database cannot be reached") from error


def _memory() -> str | None:
    """Metrics are counted in files that nobody needs after a restart: in memory, where there is such a place."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108 - a new directory with a random name


def _tell(config: Config) -> None:
    for line in config.warnings:
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
            message="RELAY_PUBLIC_URL is not set: what devices sign is compared with the Host of their request",
        )
    for platform in ("apns", "fcm"):
        if platform not in config.providers and not config.push_console:
            logs.info("provider_off", provider=platform, message="no credentials: its pushes are refused")
    if config.push_console:
        logs.warn("push_console_on", message="RELAY_PUSH_CONSOLE prints pushes instead of sending them")


def _reload(environ: Mapping[str, str], running: Snapshot) -> tuple[Snapshot, None]:
    """What SIGHUP changes: trusted servers, and the credentials at providers. The rest stays as it started."""
    try:
        renewed = load_renewed(environ)
    except ConfigError as error:
        raise StartupError("; ".join(error.lines)) from error
    kept = replace(running.config, trusted_servers=renewed.trusted_servers, apns=renewed.apns, fcm=renewed.fcm)
    return replace(running, config=kept), None
