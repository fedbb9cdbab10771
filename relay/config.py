"""The settings of the relay: with `sigil.serving.settings` the only reader of the environment and of secret files.

`load(os.environ)` returns a `Config` with warnings, or raises ConfigError with one line for every wrong value.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from relay import web_push_settings
from relay.address import Address, read_address
from relay.credentials import (
    APNS_HOSTS,
    FCM_URL,
    ApnsCredentials,
    FcmCredentials,
    apns_identifier,
    apns_key,
    apns_topic,
    service_account,
)
from relay.web_push_settings import MAX_KEYS, VapidKey
from sigil.protocol.encoding import plain_text
from sigil.serving import settings
from sigil.serving.addresses.proxies import Proxies, read_proxies
from sigil.serving.bounded import files
from sigil.serving.settings import MIN_SECRET_LENGTH, ConfigError, EnvReader, Secret, https_url
from sigil.serving.tracing import settings as tracing
from sigil.serving.tracing.settings import TracingSettings

SECRETS = ("DATABASE_URL", "TOKEN_ENCRYPTION_KEY", "METRICS_TOKEN", "RELAY_WEBPUSH_KEY", *tracing.SECRETS)
"""Variables that contain a secret themselves."""
_SERVER_ID = re.compile(r"[0-9a-f]{64}\Z")
# Settings of the server: one file of settings often serves both.
_FOREIGN = frozenset({"RELAY_URL"})
_APNS = ("APNS_KEY_PATH", "APNS_KEY_ID", "APNS_TEAM_ID", "APNS_TOPIC")


@dataclass(frozen=True)
class Config:
    """All settings of `sigil-relay serve`, parsed. Rates are per minute, 0 for none."""

    host: str = "0.0.0.0"
    port: int = 8080
    ws_port: int | None = None
    workers: int = 1
    database_url: Secret | None = None
    data_dir: Path = Path("/var/lib/relay")
    encryption_keys: tuple[Secret, ...] = ()
    public_url: str | None = None
    trusted_servers: frozenset[bytes] = frozenset()
    trust_on_first_use: bool = False
    push_rate: int = 10
    server_rate: int = 60_000
    max_devices: int = 1_000_000
    push_console: bool = False
    apns: ApnsCredentials | None = None
    fcm: FcmCredentials | None = None
    webpush: web_push_settings.Settings | None = None
    telemetry: Literal["full", "minimal", "none"] = "full"
    metrics_token: Secret | None = None
    metrics_open: bool = False
    log_level: Literal["debug", "info", "warn", "error"] = "info"
    proxies: Proxies = field(default_factory=Proxies)
    tracing: TracingSettings | None = None
    warnings: tuple[str, ...] = field(default=(), compare=False)

    @property
    def database_file(self) -> Path:
        return self.data_dir / "relay.db"

    @property
    def providers(self) -> list[str]:
        """Those with credentials."""
        credentials = (("apns", self.apns), ("fcm", self.fcm), ("webpush", self.webpush))
        return [name for name, given in credentials if given is not None]


def load(environ: Mapping[str, str]) -> Config:
    """Parse the environment; raises ConfigError with every fault at once."""
    config, faults = load_with_faults(environ)
    if faults:
        raise ConfigError(faults)
    return config


def load_with_faults(environ: Mapping[str, str]) -> tuple[Config, list[str]]:
    """The settings, with defaults in place of the faulty ones, and a line for each fault, which begins with the name
    of the setting: for a command that examines as much as it can.
    """
    reader = EnvReader(environ, _FOREIGN)
    config = _read(reader)
    reader.warn_unknown({"RELAY_": "docs/relay.md"})
    return replace(config, warnings=tuple(reader.warnings)), reader.faults


@dataclass(frozen=True)
class ReloadedSettings:
    """The settings that SIGHUP reloads."""

    trusted_servers: frozenset[bytes]
    apns: ApnsCredentials | None
    fcm: FcmCredentials | None
    webpush: web_push_settings.Settings | None
    warnings: tuple[str, ...]


def load_renewed(environ: Mapping[str, str]) -> ReloadedSettings:
    """Only the settings that SIGHUP reloads: other files may have been removed since the start. ConfigError."""
    reader = EnvReader(environ, pipe_seconds=files.RELOAD_PIPE_SECONDS)
    servers, apns, fcm, webpush = _trusted_servers(reader), _apns(reader), _fcm(reader), _webpush(reader)
    if reader.faults:
        raise ConfigError(reader.faults)
    return ReloadedSettings(servers, apns, fcm, webpush, tuple(reader.warnings))


@dataclass(frozen=True)
class Storage:
    """The settings of the registry, for commands that need no others."""

    database_url: Secret | None
    data_dir: Path
    encryption_keys: tuple[Secret, ...]

    @property
    def database_file(self) -> Path:
        return self.data_dir / "relay.db"


def load_storage(environ: Mapping[str, str]) -> Storage:
    """Only the settings of the registry; ConfigError."""
    reader = EnvReader(environ)
    storage = _storage(reader)
    if reader.faults:
        raise ConfigError(reader.faults)
    return storage


def _storage(r: EnvReader) -> Storage:
    database = r.secret("DATABASE_URL")
    if database and urlsplit(database.reveal()).scheme not in {"postgresql", "postgres"}:
        r.faults.append(
            "DATABASE_URL: must begin with postgresql://; without it the relay stores SQLite in RELAY_DATA_DIR"
        )
    keys = _encryption_keys(r)
    if database and not keys and not r.faults:
        r.faults.append("TOKEN_ENCRYPTION_KEY: required with PostgreSQL; 32 or more random characters")
    return Storage(database, r.value("RELAY_DATA_DIR", Config.data_dir, settings.absolute), keys)


def _encryption_keys(r: EnvReader) -> tuple[Secret, ...]:
    keys = [key for key in r.secrets("TOKEN_ENCRYPTION_KEY") if key]
    if any(len(key) < MIN_SECRET_LENGTH for key in keys) or len(keys) > 2 or len(set(keys)) < len(keys):
        r.faults.append(
            f"TOKEN_ENCRYPTION_KEY: must be one key, or new,old; {MIN_SECRET_LENGTH} or more characters each"
        )
    return tuple(Secret(key) for key in keys)


def _read(r: EnvReader) -> Config:
    storage = _storage(r)
    address = read_address(r)
    metrics_token, metrics_open = r.token("METRICS_TOKEN")
    return Config(
        host=address.host,
        port=address.port,
        ws_port=_socket_port(r, address),
        workers=_workers(r, storage),
        database_url=storage.database_url,
        data_dir=storage.data_dir,
        encryption_keys=storage.encryption_keys,
        public_url=settings.relay_public_url(r),
        trusted_servers=_trusted_servers(r),
        trust_on_first_use=r.flag("RELAY_TRUST_ON_FIRST_USE", default=False),
        push_rate=r.value("RELAY_PUSH_RATE", 10, settings.rate),
        server_rate=r.value("RELAY_SERVER_RATE", 60_000, settings.rate),
        max_devices=r.value("RELAY_MAX_DEVICES", 1_000_000, settings.count(10, 1_000_000_000)),
        push_console=r.flag("RELAY_PUSH_CONSOLE", default=False),
        apns=_apns(r),
        fcm=_fcm(r),
        webpush=_webpush(r),
        telemetry=r.choice("RELAY_TELEMETRY", "full", "full", "minimal", "none"),  # type: ignore[arg-type]
        metrics_token=metrics_token,
        metrics_open=metrics_open,
        log_level=r.choice("LOG_LEVEL", "info", "debug", "info", "warn", "error"),  # type: ignore[arg-type]
        proxies=read_proxies(r),
        tracing=tracing.read_tracing(r, "relay"),
    )


def _apns(r: EnvReader) -> ApnsCredentials | None:
    """None if no variable of APNs is set, or with a fault."""
    url = r.value("APNS_URL", None, https_url)
    environment = r.choice("APNS_ENVIRONMENT", "production", *APNS_HOSTS)
    if not any(r.text(name) for name in _APNS):
        return None
    missing = [name for name in _APNS if not r.text(name)]
    r.faults += [f"{name}: required for APNs, which needs {', '.join(_APNS)}" for name in missing]
    key = r.secret_file("APNS_KEY_PATH", apns_key)
    key_id, team_id = r.value("APNS_KEY_ID", "", apns_identifier), r.value("APNS_TEAM_ID", "", apns_identifier)
    topic = r.value("APNS_TOPIC", "", apns_topic)
    if key is None or not (key_id and team_id and topic):
        return None
    return ApnsCredentials(key, key_id, team_id, topic, url or APNS_HOSTS[environment])


def _fcm(r: EnvReader) -> FcmCredentials | None:
    url, token_url = r.value("FCM_URL", FCM_URL, https_url), r.value("FCM_TOKEN_URL", None, https_url)
    return r.secret_file("FCM_SERVICE_ACCOUNT", lambda text: service_account(text, url=url, token_url=token_url))


def _webpush(r: EnvReader) -> web_push_settings.Settings | None:
    """None without a key, or with a fault."""
    contact = r.value("RELAY_WEBPUSH_CONTACT", None, web_push_settings.contact)
    hosts = r.value("RELAY_WEBPUSH_HOSTS", web_push_settings.Settings.hosts, web_push_settings.hosts)
    keys = _webpush_keys(r)
    if not keys:
        return None
    if contact is None:
        r.warnings.append(
            "RELAY_WEBPUSH_CONTACT is not set: Apple's push service needs one (mailto:you@your-domain), so iPhones and "
            "Safari get no pushes"
        )
    return web_push_settings.Settings(keys, contact, hosts)


def _webpush_keys(r: EnvReader) -> tuple[VapidKey, ...]:
    items = [item for item in r.secrets("RELAY_WEBPUSH_KEY") if item]
    if len(items) > MAX_KEYS or len(set(items)) < len(items):
        r.faults.append("RELAY_WEBPUSH_KEY: must be one key of `sigil-relay webpush-key`, or new,old")
        return ()
    try:
        return tuple(web_push_settings.vapid_key(item) for item in items)
    except ValueError as error:
        r.faults.append(f"RELAY_WEBPUSH_KEY: {error}")
        return ()


def _socket_port(r: EnvReader, address: Address) -> int | None:
    """On one port, the kernel would give each connection to one of the two listeners."""
    port = r.value("RELAY_WS_PORT", None, settings.port)
    if port == address.port:
        r.faults.append("RELAY_WS_PORT: must differ from RELAY_PORT, which serves WebSockets too without this setting")
    return port


def _workers(r: EnvReader, storage: Storage) -> int:
    """One on SQLite, which only one process may open."""
    workers = r.value("RELAY_WORKERS", None, settings.count(1, 256))
    if storage.database_url is not None:
        return workers or settings.usable_cores()
    if workers not in {None, 1}:
        r.warnings.append("RELAY_WORKERS: on SQLite the relay runs one worker; set DATABASE_URL for more")
    return 1


def secret_files(environ: Mapping[str, str]) -> dict[str, Path]:
    """The files with secrets that are set, by their variable, for checks of the files themselves."""
    names = (*(f"{name}_FILE" for name in SECRETS), "APNS_KEY_PATH", "FCM_SERVICE_ACCOUNT")
    given = {name: plain_text.cleaned(environ.get(name, "")) for name in names}
    return {name: Path(path) for name, path in given.items() if path}


def lists_server(environ: Mapping[str, str], server_id: bytes) -> bool:
    """Whether the settings trust this server, for a command that removes it; ConfigError."""
    reader = EnvReader(environ)
    listed = _trusted_servers(reader)
    if reader.faults:
        raise ConfigError(reader.faults)
    return server_id in listed


def _trusted_servers(r: EnvReader) -> frozenset[bytes]:
    """Also from a file: the environment of a running process cannot be changed for a SIGHUP."""
    ids = [item for item in re.split(r"[\s,]+", r.list_or_file("RELAY_TRUSTED_SERVERS")) if item]
    if not all(_SERVER_ID.match(item) for item in ids):
        r.faults.append(
            "RELAY_TRUSTED_SERVERS: must be a list of server_ids, 64 lower-case hex characters each "
            "(`sigil identity` shows one)"
        )
        return frozenset()
    return frozenset(bytes.fromhex(item) for item in ids)
