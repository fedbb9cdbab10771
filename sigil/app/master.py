"""The master process of `sigil serve`: everything is checked here, in one line each, before a worker starts."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from sigil import __version__
from sigil.app import init_mode
from sigil.app.init_mode import Start
from sigil.app.operational import Snapshot, create_app
from sigil.app.state import enter_state
from sigil.config.settings import SECRETS, Config, load, load_renewed
from sigil.protocol.identity import DerivedSecrets, InvalidMnemonic, ServerIdentity
from sigil.serving import logs
from sigil.serving.process.master import TlsPaths, serve
from sigil.serving.process.memory_protection import active_swap_devices
from sigil.serving.process.self_signed import ensure_pair, is_there
from sigil.serving.process.tls_pair import TlsPair
from sigil.serving.settings import ConfigError, Secret
from sigil.serving.startup_error import StartupError


def run() -> int:
    """Serve until a signal ends it; the exit code. Raises ConfigError and StartupError before anything runs."""
    environ = dict(os.environ)
    # Workers inherit the environment, where whoever may look into a process can read it.
    for name in SECRETS:
        os.environ.pop(name, None)
    config = load(environ)
    init_mode.require_tls(config)
    log_level = logs.stricter(config.log_level, config.telemetry)
    logs.configure("sigil", log_level)
    # The words end here, one way or the other.
    start = _operational(config) if config.mnemonic else None
    config = replace(config, mnemonic=None)
    _tell(config)
    _ensure_tls(config)
    with enter_state(config) as state:
        start = start or init_mode.start(config)
        init_mode.prepare_state(state, config, start)
        logs.info(
            "sigil_starting",
            version=__version__,
            mode="operational" if start.identity else "init",
            server_id=start.identity.server_id if start.identity else None,
            pictogram=start.identity.pictogram_speakable if start.identity else None,
            workers=config.workers,
            push="enabled" if config.relay_url else "disabled",
            webhooks="enabled" if config.webhook else "disabled",
            sessions="adopted" if state.adopted else "new",
        )
        return serve(
            factory=start.factory,
            settings=start.snapshot,
            host=config.host,
            port=config.port,
            tls=_tls_paths(config),
            workers=config.workers,
            state_dir=config.state_dir,
            reload=lambda: _reload(environ, start),
            log_level=log_level,
            websockets=False,
            metrics=config.telemetry != "none",
        )


def check(environ: Mapping[str, str] = os.environ) -> tuple[Config, ServerIdentity | None]:
    """All that can be known before a start, without starting or changing anything; ConfigError or StartupError."""
    config = load(environ)
    identity = take_snapshot(config)[1] if config.mnemonic else None
    given = not config.http_only and (is_there(config.tls_cert) or is_there(config.tls_key))
    if given or not (config.http_only or config.tls_auto_generate):
        ensure_pair(config.tls_cert, config.tls_key, generate=False)
        TlsPair(config.tls_cert, config.tls_key).close()
    if config.mode == "init":
        init_mode.require_tls(config)
        init_mode.expected_server_id(config)
    return config, identity


def _operational(config: Config) -> Start:
    snapshot, identity = take_snapshot(config)
    return Start(create_app, snapshot, identity)


def take_snapshot(config: Config) -> tuple[Snapshot, ServerIdentity]:
    """From the words to what workers get; the words go no further than here."""
    secrets = derive(config.mnemonic or Secret(""))
    return Snapshot(replace(config, mnemonic=None), secrets), ServerIdentity.from_secrets(secrets)


def derive(mnemonic: Secret) -> DerivedSecrets:
    try:
        secrets = DerivedSecrets.from_mnemonic(mnemonic.reveal())
        ServerIdentity.from_secrets(secrets)
    except InvalidMnemonic as error:
        raise StartupError(f"SIGIL_MNEMONIC or SIGIL_MNEMONIC_PATH: {error}") from None
    return secrets


def _tell(config: Config) -> None:
    if swapped := active_swap_devices():
        logs.warn("swap_is_on", swaps=swapped, message="memory with derived keys can reach a disk: turn swap off")
    for line in config.warnings:
        logs.warn("setting", message=line)
    if not config.relay_url:
        logs.info("push_disabled", message="RELAY_URL is empty; devices fetch what is pending")


def _tls_paths(config: Config) -> tuple[Path, Path] | None:
    return None if config.http_only else (config.tls_cert, config.tls_key)


def _ensure_tls(config: Config) -> None:
    if config.http_only:
        logs.warn("plain_http", message="SIGIL_HTTP_PORT serves without TLS: only for a proxy on this host or network")
    elif ensure_pair(config.tls_cert, config.tls_key, generate=config.tls_auto_generate):
        logs.warn("self_signed_certificate", path=config.tls_cert, message="clients have to be told to trust it")


def _reload(environ: Mapping[str, str], start: Start) -> tuple[object, TlsPaths]:
    """What SIGHUP changes: certificate, API keys and revocations, from their files. The rest stays as it started."""
    try:
        renewed = load_renewed(environ)
    except ConfigError as error:
        raise StartupError("; ".join(error.lines)) from error
    for line in renewed.warnings:
        logs.warn("setting", message=line)
    running = start.snapshot
    kept = replace(running.config, preset_keys=renewed.preset_keys, revoked_keys=renewed.revoked_keys)
    return replace(running, config=kept), _tls_paths(kept)
