"""Every reason why the start would fail, all at once, without a change; a server may run beside it.

Each step of `master` that can fail has its check here, of the same code.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from sigil.app import init_mode
from sigil.app.state import other_server_problem, store_problem
from sigil.config.address import own_server
from sigil.config.settings import Config, load, load_mnemonic
from sigil.protocol.identity import DerivedSecrets, InvalidMnemonic, ServerIdentity
from sigil.serving.addresses.gateways import gateway_warnings
from sigil.serving.health_check import runs
from sigil.serving.process.listeners import PortInUse, check_listen
from sigil.serving.settings import ConfigError, Secret
from sigil.serving.startup_error import StartupError
from sigil.serving.tls.self_signed import check_pair
from sigil.serving.tls.tls_pair import TlsPair
from sigil.serving.tls.validity import validity_warnings


@dataclass(frozen=True)
class Checked:
    """Settings with which the server starts; `identity` is None in init mode."""

    config: Config
    identity: ServerIdentity | None
    warnings: list[str]


def check(environ: Mapping[str, str]) -> Checked:
    """ConfigError with every reason."""
    try:
        config = load(environ)
    except ConfigError as error:
        raise ConfigError([*error.lines, *_mnemonic_faults(environ)]) from None
    faults: list[str] = []

    def attempt(step: Callable[[], object]) -> None:
        try:
            step()
        except StartupError as error:
            faults.append(str(error))

    if config.mnemonic:
        attempt(lambda: derive(config.mnemonic or Secret("")))
    attempt(lambda: _check_tls(config))
    attempt(lambda: _check_state(config))
    attempt(lambda: _check_listen(config, environ))
    attempt(lambda: init_mode.check(config))
    if faults:
        raise ConfigError(faults)
    identity = ServerIdentity.from_secrets(derive(config.mnemonic)) if config.mnemonic else None
    return Checked(config, identity, setting_warnings(config) + certificate_warnings(config))


def setting_warnings(config: Config) -> list[str]:
    return [*config.warnings, *gateway_warnings(config.proxies)]


def certificate_warnings(config: Config) -> list[str]:
    if config.http_only:
        return []
    # Behind a proxy, clients see the certificate of the proxy.
    host = None if config.proxies else urlsplit(config.public_url or "").hostname
    now = datetime.datetime.now(datetime.UTC)
    return validity_warnings(config.tls_cert, now, host=host, renews_own=config.tls_auto_generate)


def port_setting(config: Config) -> str:
    return "SIGIL_HTTP_PORT" if config.http_only else "SIGIL_PORT"


def derive(mnemonic: Secret) -> DerivedSecrets:
    """StartupError for words that are no mnemonic."""
    try:
        secrets = DerivedSecrets.from_mnemonic(mnemonic.reveal())
        ServerIdentity.from_secrets(secrets)
    except InvalidMnemonic as error:
        raise StartupError(f"SIGIL_MNEMONIC or SIGIL_MNEMONIC_PATH: {error}") from None
    return secrets


def _mnemonic_faults(environ: Mapping[str, str]) -> list[str]:
    try:
        derive(load_mnemonic(environ))
    except ConfigError:
        # `load` has reported it.
        return []
    except StartupError as error:
        return [str(error)]
    return []


def _check_tls(config: Config) -> None:
    if not config.http_only and check_pair(config.tls_cert, config.tls_key, generate=config.tls_auto_generate):
        TlsPair(config.tls_cert, config.tls_key).close()


def _check_state(config: Config) -> None:
    if problem := store_problem(config):
        raise StartupError(problem)


def _check_listen(config: Config, environ: Mapping[str, str]) -> None:
    held = other_server_problem(config)
    try:
        check_listen(config.host, config.port, port_setting=port_setting(config))
    except PortInUse:
        # The server of these settings runs, and has both its directory and its port.
        if not (held and runs(own_server(environ))):
            raise
    else:
        if held:
            raise StartupError(held)
