"""What the master does for init mode: is there an identity already, who may set one up, and where."""

from __future__ import annotations

import ipaddress
import secrets
import socket
from collections.abc import Callable
from dataclasses import dataclass

from sigil.app import wizard
from sigil.app.operational import Snapshot
from sigil.app.state import settle_state
from sigil.app.wizard import InitSnapshot, marker_of, vault_of
from sigil.config.settings import Config
from sigil.first_boot.commitment import VaultUnusable
from sigil.first_boot.marker import MarkerUnusable
from sigil.protocol.identity import ServerIdentity
from sigil.serving import logs
from sigil.serving.process.worker import AsgiApp
from sigil.serving.settings import Secret
from sigil.serving.startup_error import StartupError
from sigil.store.adoption import NOBODY
from sigil.store.state_directory import StateDirectory

_TOKEN_BYTES = 24


@dataclass(frozen=True, repr=False)
class Start:
    """How workers begin: `factory` makes the application of each from `snapshot`; `identity` is None in init mode."""

    factory: Callable[..., AsgiApp]
    snapshot: Snapshot | InitSnapshot
    identity: ServerIdentity | None


def refuse_in_the_clear(config: Config) -> None:
    """StartupError when the words would cross a network without TLS."""
    if config.mode == "init" and config.http_only and not on_loopback(config.host):
        raise StartupError(
            "SIGIL_MODE=init on SIGIL_HTTP_PORT would send the words in the clear: set SIGIL_HOST=127.0.0.1, or use "
            "SIGIL_PORT with TLS"
        )


def start(config: Config) -> Start:
    """For a server without words. The state directory is this process's; StartupError."""
    if identity := committed_identity(config):
        if config.init_reset:
            logs.warn("init_reset_ignored", message=f"{config.state_dir} holds an identity: remove it to set up anew")
        snapshot = InitSnapshot(config, None, identity.server_id, on_loopback(config.host))
        return Start(wizard.create_initialized_app, snapshot, identity)
    if config.init_reset:
        _remove_marker(config)
    token = _token(config)
    _tell(config, token)
    snapshot = InitSnapshot(config, token, expected(config), on_loopback(config.host))
    return Start(wizard.create_app, snapshot, None)


def committed_identity(config: Config) -> ServerIdentity | None:
    """What the wizard committed to the state directory; StartupError."""
    vault = vault_of(config)
    try:
        vault.sweep()
        commitment = vault.read()
    except VaultUnusable as error:
        raise StartupError(f"SIGIL_STATE_DIR {config.state_dir} cannot be used: {error}; remove it") from error
    return None if commitment is None else ServerIdentity.from_secrets(commitment.secrets)


def settle(state: StateDirectory, config: Config, start: Start) -> None:
    """Keep the session store for the identity that it had, and the commitment while nothing else has its secrets."""
    server_id = start.identity.server_id if start.identity else NOBODY
    committed = committed_identity(config)
    settle_state(state, config, server_id, vouched=committed is not None and committed.server_id == server_id)
    if config.mode == "operational":
        _forget_commitment(config)
        _renew_marker(config, server_id)


def _forget_commitment(config: Config) -> None:
    try:
        vault_of(config).forget()
    except VaultUnusable as error:
        raise StartupError(f"SIGIL_STATE_DIR {config.state_dir} cannot be used: {error}") from error


def _renew_marker(config: Config, server_id: str) -> None:
    """Words of the settings say who this server is, and a later init mode expects those. Not worth an outage."""
    try:
        former = marker_of(config).follow(server_id)
    except MarkerUnusable as error:
        logs.warn("marker_not_written", reason=str(error))
        return
    if former:
        told = (
            "the words of the settings give another identity than this server had; init mode expects theirs from now on"
        )
        logs.warn("marker_renewed", former=former, server_id=server_id, message=told)


def expected(config: Config) -> str | None:
    """The server_id that alone may be restored; StartupError when the marker cannot be read."""
    if config.init_reset:
        return None
    try:
        return marker_of(config).read()
    except MarkerUnusable as error:
        raise StartupError(f"{error}; SIGIL_INIT_RESET=true removes it, for another identity") from error


def _remove_marker(config: Config) -> None:
    try:
        marker_of(config).remove()
    except MarkerUnusable as error:
        raise StartupError(f"SIGIL_INIT_RESET: {error}") from error


def asks_for_token(config: Config) -> bool:
    return not config.init_token_off and bool(config.init_token or _others_come_in(config))


def _others_come_in(config: Config) -> bool:
    """Not only people on this host: to a listener on a network, or through a proxy, of which these settings speak."""
    proxied = config.http_only or config.public_url or config.trusted_proxies
    return bool(proxied) or not on_loopback(config.host)


def _token(config: Config) -> Secret | None:
    if not asks_for_token(config):
        return None
    return config.init_token or Secret(secrets.token_urlsafe(_TOKEN_BYTES))


def _tell(config: Config, token: Secret | None) -> None:
    address = address_of(config)
    if token and not config.init_token:
        address += f"#token={token.reveal()}"
    # Whoever turned the log down still needs this line: nothing else tells the token.
    level = next(level for level in ("info", "warn", "error") if logs.enabled(level))
    how = "with the token of SIGIL_INIT_TOKEN" if config.init_token and token else "once"
    logs.report(level, "init_mode", {"open": address, "message": f"open this address {how} to set the server up"})
    if token is None and _others_come_in(config):
        logs.warn("init_without_token", message="whoever reaches this server can set it up: SIGIL_INIT_TOKEN is off")


def address_of(config: Config) -> str:
    """Where a person opens the wizard, without a token."""
    wildcard = config.host in {"0.0.0.0", "::"}
    host = "localhost" if wildcard or on_loopback(config.host) else config.host
    own = f"{config.scheme}://{f'[{host}]' if ':' in host else host}:{config.port}"
    return f"{config.public_url or own}/init"


def on_loopback(host: str) -> bool:
    """Whether a listener there is reached from this host alone. A name counts as what it resolves to, all of it."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        return all(ipaddress.ip_address(str(address[0]).partition("%")[0]).is_loopback for *_, address in found)
    except (OSError, ValueError):
        return False
