"""The master's part of init mode: finds a committed identity, or starts the wizard with its setup token and address."""

from __future__ import annotations

import ipaddress
import secrets
import socket
from collections.abc import Callable
from dataclasses import dataclass

from sigil.app import wizard
from sigil.app.operational import Snapshot
from sigil.app.state import prepare_store
from sigil.app.wizard import InitSnapshot, marker_of, vault_of
from sigil.config.settings import Config
from sigil.first_boot.commitment import VaultOutdated, VaultUnusable
from sigil.first_boot.marker import MarkerUnusable
from sigil.first_boot.vault import VAULT_FILE
from sigil.protocol.identity import InvalidMnemonic, ServerIdentity
from sigil.serving import logs
from sigil.serving.process.lifecycle import AsgiApp
from sigil.serving.settings import Secret
from sigil.serving.startup_error import StartupError
from sigil.store.adoption import NO_SERVER
from sigil.store.state_directory import StateDirectory

_TOKEN_BYTES = 24


@dataclass(frozen=True, repr=False)
class Start:
    """How workers start: `factory` makes each worker's application from `snapshot`; `identity` is None in init mode."""

    factory: Callable[..., AsgiApp]
    snapshot: Snapshot | InitSnapshot
    identity: ServerIdentity | None


def require_safe_wizard(config: Config) -> None:
    """Raises StartupError when others could read the mnemonic on a network, or use the wizard without a token."""
    if config.mode != "init":
        return
    if config.http_only and not on_loopback(config.host):
        raise StartupError(
            "SIGIL_MODE=init on SIGIL_HTTP_PORT would send the mnemonic in plain text: set SIGIL_HOST=127.0.0.1, or "
            "use SIGIL_PORT with TLS"
        )
    if config.init_token_off and _reachable_by_others(config):
        raise StartupError(
            "SIGIL_INIT_TOKEN=off would let every client of this server set it up: unset SIGIL_INIT_TOKEN and open the "
            "address in the log, or set SIGIL_HOST=127.0.0.1 without SIGIL_PUBLIC_URL, SIGIL_HTTP_PORT and "
            "TRUSTED_PROXY_…"
        )


def check(config: Config) -> None:
    """Raises StartupError for what `require_safe_wizard` and `start` would; changes nothing."""
    if config.mode != "init":
        return
    require_safe_wizard(config)
    expected_server_id(config)
    read_committed(config)


def start(config: Config) -> Start:
    """Start a server without a mnemonic. This process must hold the state directory. Raises StartupError."""
    if identity := committed_identity(config):
        if config.init_reset:
            message = f"{config.state_dir} contains an identity: remove it to set up another"
            logs.warn("init_reset_ignored", message=message)
        snapshot = InitSnapshot(config, None, identity.server_id, on_loopback(config.host))
        return Start(wizard.create_initialized_app, snapshot, identity)
    if config.init_reset:
        _remove_marker(config)
    token = _setup_token(config)
    _log_address(config, token)
    snapshot = InitSnapshot(config, token, expected_server_id(config), on_loopback(config.host))
    return Start(wizard.create_app, snapshot, None)


def committed_identity(config: Config) -> ServerIdentity | None:
    """The identity that the wizard committed to the state directory, None without one. Raises StartupError."""
    try:
        vault_of(config).remove_temporary_files()
    except VaultUnusable as error:
        raise StartupError(f"SIGIL_STATE_DIR {config.state_dir} cannot be used: {error}") from error
    return read_committed(config)


def read_committed(config: Config) -> ServerIdentity | None:
    """The same, and it changes nothing: for commands next to a running server."""
    try:
        commitment = vault_of(config).read()
        return None if commitment is None else ServerIdentity.from_secrets(commitment.secrets)
    except VaultUnusable as error:
        raise StartupError(f"SIGIL_STATE_DIR {config.state_dir} cannot be used: {error}") from error
    except InvalidMnemonic:
        text = f"SIGIL_STATE_DIR {config.state_dir} cannot be used: {VAULT_FILE} is damaged; remove it"
        raise StartupError(text) from None


def prepare_state(state: StateDirectory, config: Config, start: Start) -> None:
    """Adopt the session store if it belongs to this identity, else start an empty one.

    The commitment is removed once the settings provide the mnemonic: until then its secrets exist only there.
    """
    server_id = start.identity.server_id if start.identity else NO_SERVER
    committed = _adoptable(config)
    prepare_store(state, config, server_id, adopt_unowned=committed is not None and committed.server_id == server_id)
    if config.mode == "operational":
        _remove_commitment(config)
        _update_marker(config, server_id)


def _adoptable(config: Config) -> ServerIdentity | None:
    """With the mnemonic in the settings, a commitment of an older version is of no use, and is removed as any is."""
    try:
        return committed_identity(config)
    except StartupError as error:
        if config.mode == "operational" and isinstance(error.__cause__, VaultOutdated):
            return None
        raise


def _remove_commitment(config: Config) -> None:
    try:
        vault_of(config).remove()
    except VaultUnusable as error:
        raise StartupError(f"SIGIL_STATE_DIR {config.state_dir} cannot be used: {error}") from error


def _update_marker(config: Config, server_id: str) -> None:
    """Change an existing marker to the identity of the settings. Failures are only logged."""
    try:
        former = marker_of(config).replace(server_id)
    except MarkerUnusable as error:
        logs.warn("marker_not_written", reason=str(error))
        return
    if former:
        message = (
            "the mnemonic of the settings gives another identity than this server had; from now on init mode expects "
            "the new one"
        )
        logs.warn("marker_renewed", former=former, server_id=server_id, message=message)


def expected_server_id(config: Config) -> str | None:
    """The only server_id that may be restored, None for any. Raises StartupError when the marker cannot be read."""
    if config.init_reset:
        return None
    try:
        return marker_of(config).read()
    except MarkerUnusable as error:
        raise StartupError(
            f"{error}; SIGIL_INIT_RESET=true removes it, so that another identity can be set up"
        ) from error


def _remove_marker(config: Config) -> None:
    try:
        marker_of(config).remove()
    except MarkerUnusable as error:
        raise StartupError(f"SIGIL_INIT_RESET: {error}") from error


def _reachable_by_others(config: Config) -> bool:
    """Whether other hosts may reach the wizard: the listener is on a network, or the settings imply a proxy."""
    return bool(config.http_only or config.public_url or config.proxies) or not on_loopback(config.host)


def _setup_token(config: Config) -> Secret | None:
    # On loopback too: a proxy of this host may forward requests that look like those of this host (decision 0025).
    if config.init_token_off:
        return None
    return config.init_token or Secret(secrets.token_urlsafe(_TOKEN_BYTES))


def _log_address(config: Config, token: Secret | None) -> None:
    address = wizard_address(config)
    if token and not config.init_token:
        address += f"#token={token.reveal()}"
    # At the lowest level that the log lets through: the token appears nowhere else.
    level = next(level for level in ("info", "warn", "error") if logs.enabled(level))
    how = ", and enter the setup token that this server was started with," if config.init_token else ""
    logs.report(level, "init_mode", {"open": address, "message": f"open this address{how} to set the server up"})
    if token is None:
        message = (
            "SIGIL_INIT_TOKEN is off: every program of this host can set the server up, and so can all clients of a "
            "proxy on this host"
        )
        logs.warn("init_without_token", message=message)


def wizard_address(config: Config) -> str:
    """The URL of the wizard, without a token."""
    # The listener is on one address: localhost does not reach 127.0.0.2, nor a name of this host for 127.0.1.1.
    host = "localhost" if config.host in {"0.0.0.0", "::", "127.0.0.1", "::1"} else config.host
    own = f"{config.scheme}://{f'[{host}]' if ':' in host else host}:{config.port}"
    return f"{config.public_url or own}/init"


def on_loopback(host: str) -> bool:
    """Whether only this host can reach a listener on `host`. All addresses that a name resolves to must be loopback."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        return all(ipaddress.ip_address(str(address[0]).partition("%")[0]).is_loopback for *_, address in found)
    except (OSError, ValueError):
        return False
