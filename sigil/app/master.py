"""The master process of `sigil serve`: it checks everything before a worker starts, and reports a fault in one line."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from sigil import __version__
from sigil.android_status.feed import AndroidStatusFeed
from sigil.app import init_mode
from sigil.app.checks import certificate_warnings, derive, port_setting, setting_warnings
from sigil.app.init_mode import Start
from sigil.app.operational import Snapshot, create_app
from sigil.app.state import enter_state
from sigil.app.web_address import warn_of_change
from sigil.config.settings import SECRETS, Config, load, load_renewed
from sigil.protocol.identity import DerivedSecrets, ServerIdentity
from sigil.serving import logs
from sigil.serving.cloudflare.feed import feed_for
from sigil.serving.fetches.several import SeveralFeeds
from sigil.serving.inherited import clean_start, signals
from sigil.serving.process.master import TlsPaths, serve
from sigil.serving.process.memory_protection import active_swap_devices, forbid_core_dumps
from sigil.serving.process.supervisor import SettingsFeed
from sigil.serving.settings import ConfigError
from sigil.serving.startup_error import StartupError
from sigil.serving.tls.renewal import Renewal
from sigil.serving.tls.self_signed import ensure_pair


def run() -> int:
    """Serve until a signal ends the server; the exit code. Raises ConfigError and StartupError before anything runs."""
    signals.set_for_master()
    state = clean_start.received()
    if not isinstance(state, _Settings):
        state = _read_settings(dict(os.environ))
        clean_start.restart(state, forget=SECRETS)
    return _serve(state)


@dataclass(frozen=True, repr=False)
class _Settings:
    """All that the environment holds: without the mnemonic, from which `secrets` are derived."""

    config: Config
    secrets: DerivedSecrets | None
    environ: Mapping[str, str]


def _read_settings(environ: Mapping[str, str]) -> _Settings:
    config = load(environ)
    init_mode.require_safe_wizard(config)
    logs.configure("sigil", logs.stricter(config.log_level, config.telemetry))
    secrets = derive(config.mnemonic) if config.mnemonic else None
    kept = {name: value for name, value in environ.items() if name != "SIGIL_MNEMONIC"}
    return _Settings(replace(config, mnemonic=None), secrets, kept)


def _serve(given: _Settings) -> int:
    forbid_core_dumps()
    config = given.config
    log_level = logs.stricter(config.log_level, config.telemetry)
    logs.configure("sigil", log_level)
    start = _operational(config, given.secrets) if given.secrets else None
    _log_settings(config)
    renewal = _ensure_tls(config)
    _log_warnings(certificate_warnings(config))
    with enter_state(config) as state:
        start = start or init_mode.start(config)
        init_mode.prepare_state(state, config, start)
        warn_of_change(config)
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
            port_setting=port_setting(config),
            tls=_tls_paths(config),
            workers=config.workers,
            state_dir=config.state_dir,
            reload=lambda: _reload(given.environ, start),
            log_level=log_level,
            websockets=False,
            metrics=config.telemetry != "none",
            feed=_feeds(config),
            upkeep=renewal,
        )


def _operational(config: Config, secrets: DerivedSecrets) -> Start:
    return Start(create_app, Snapshot(config, secrets), ServerIdentity.from_secrets(secrets))


def _log_warnings(lines: list[str]) -> None:
    for line in lines:
        logs.warn("setting", message=line)


def _log_settings(config: Config) -> None:
    if swapped := active_swap_devices():
        logs.warn("swap_is_on", swaps=swapped, message="swap can write derived keys to a disk: turn swap off")
    _log_warnings(setting_warnings(config))
    if not config.relay_url:
        logs.info(
            "push_disabled", message="RELAY_URL is empty: no pushes are sent, and devices fetch pending challenges"
        )


def _feeds(config: Config) -> SeveralFeeds:
    status = config.android_status
    feeds: list[SettingsFeed] = []
    if cloudflare := feed_for(config.proxies):
        feeds.append(cloudflare)
    if "android-key" in config.attestation.kinds or status.path:
        feeds.append(AndroidStatusFeed(status.path, status.url))
    return SeveralFeeds(feeds)


def _tls_paths(config: Config) -> tuple[Path, Path] | None:
    return None if config.http_only else (config.tls_cert, config.tls_key)


def _ensure_tls(config: Config) -> Renewal | None:
    """The renewal of a pair that this server may make itself; done once before the workers load the pair."""
    if config.http_only:
        logs.warn(
            "plain_http",
            message="SIGIL_HTTP_PORT serves without TLS: use it only behind a proxy on this host or network",
        )
        return None
    if ensure_pair(config.tls_cert, config.tls_key, generate=config.tls_auto_generate):
        logs.warn(
            "self_signed_certificate", path=config.tls_cert, message="configure clients to trust this certificate"
        )
    if not config.tls_auto_generate:
        return None
    renewal = Renewal(config.tls_cert, config.tls_key)
    renewal()
    return renewal


def _reload(environ: Mapping[str, str], start: Start) -> tuple[object, TlsPaths]:
    """SIGHUP reloads the certificate, API keys, revocations of keys and devices, and the lists of attestation. All
    other settings stay.
    """
    try:
        renewed = load_renewed(environ, start.snapshot.config.attestation)
    except ConfigError as error:
        raise StartupError("; ".join(error.lines)) from error
    running = start.snapshot
    _log_warnings([*renewed.warnings, *certificate_warnings(running.config)])
    kept = replace(
        running.config,
        preset_keys=renewed.preset_keys,
        revoked_keys=renewed.revoked_keys,
        attestation=renewed.attestation,
        revoked_devices=renewed.revoked_devices,
    )
    return replace(running, config=kept), _tls_paths(kept)
