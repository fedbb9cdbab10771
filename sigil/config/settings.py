"""The settings of the server: the only reader of the environment and of secret files (docs/configuration.md).

`load(os.environ)` returns a `Config` with its warnings, or raises `ConfigError` with one line for every wrong value. A
line names the variable and the correction, and never repeats a secret.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from sigil.attestation.policy import AttestationPolicy
from sigil.config import attestation, webhooks
from sigil.config.address import Address, read_address
from sigil.config.attestation import StatusSource
from sigil.config.webhooks import WebhookTarget
from sigil.protocol.api_key import REVOCATION, has_computed_form, is_revoked
from sigil.protocol.origin import relay_origin, server_origin, web_origin
from sigil.serving import settings
from sigil.serving.addresses.proxies import Proxies, read_proxies
from sigil.serving.bounded import files
from sigil.serving.settings import MIN_SECRET_LENGTH, VISIBLE, ConfigError, EnvReader, Secret
from sigil.serving.tls import file_names
from sigil.serving.tracing import settings as tracing
from sigil.serving.tracing.settings import TracingSettings

KeyPrefix = Literal["sgk_live_", "sgk_test_"]
# The store is allocated whole at the start, so the default has to leave memory on a machine of 2 GB.
DEFAULT_STORE_SIZE = 512 << 20
TLS_DIRECTORY = Path("/var/lib/sigil/tls")
SECRETS = (
    "SIGIL_MNEMONIC",
    "API_KEY",
    "WEBHOOK_SECRET",
    "WEBHOOK_URL",
    "METRICS_TOKEN",
    "SIGIL_INIT_TOKEN",
    *tracing.SECRETS,
)
"""Variables whose value is a secret, or may contain one."""


@dataclass(frozen=True)
class Config:
    """All settings of `sigil serve`, parsed. Rates are per minute, 0 for none; sizes in bytes; shares in percent."""

    mode: Literal["operational", "init"] = "operational"
    mnemonic: Secret | None = None
    host: str = "0.0.0.0"
    port: int = 8443
    http_only: bool = False
    workers: int = 1
    state_dir: Path = Path("/dev/shm/sigil-8443")  # noqa: S108 - checked for owner, links and mode before use
    state_dir_insecure: bool = False
    store_size: int = DEFAULT_STORE_SIZE
    server_name: str = "Sigil"
    public_url: str | None = None
    relay_url: str | None = None
    relay_public_url: str | None = None
    push_content: Literal["full", "reference"] = "full"
    preset_keys: tuple[Secret, ...] = ()
    revoked_keys: tuple[str, ...] = ()
    tls_cert: Path = TLS_DIRECTORY / "cert.pem"
    tls_key: Path = TLS_DIRECTORY / "key.pem"
    tls_auto_generate: bool = True
    telemetry: Literal["full", "minimal", "none"] = "full"
    metrics_token: Secret | None = None
    metrics_open: bool = False
    log_level: Literal["debug", "info", "warn", "error"] = "info"
    init_token: Secret | None = None
    init_token_off: bool = False
    init_reset: bool = False
    number_matching: bool = False
    max_pending_per_device: int = 5
    device_rate: int = 10
    max_pending_per_key: int = 100_000
    key_share: int = 75
    mpa_exclude_requester: bool = False
    enrol_without_code: bool = False
    device_app: bool = True
    web_plain_keys: bool = False
    max_enrolments: int = 1000
    revoked_devices: frozenset[str] = frozenset()
    rate_limit: int = 600
    webhook: WebhookTarget | None = None
    proxies: Proxies = field(default_factory=Proxies)
    tracing: TracingSettings | None = None
    attestation: AttestationPolicy = field(default_factory=AttestationPolicy)
    android_status: StatusSource = field(default_factory=StatusSource)
    warnings: tuple[str, ...] = field(default=(), compare=False)

    @property
    def live_keys(self) -> bool:
        """Whether this server issues live API keys; only a server that requires attestation does."""
        return self.attestation.required

    @property
    def key_prefix(self) -> KeyPrefix:
        """Of the API keys that this server issues."""
        return _key_prefix(self.live_keys)

    @property
    def device_app_origin(self) -> str | None:
        """Where the web app of devices is served; None where it is off, or where browsers would not run it."""
        return web_origin(self.public_url) if self.device_app else None

    @property
    def scheme(self) -> Literal["http", "https"]:
        return "http" if self.http_only else "https"


_FINGERPRINT = re.compile(r"[0-9a-f]{64}\Z")
# Named in the documentation, not implemented yet: the server does not start with one, rather than ignore it.
_VALUES_NOT_IMPLEMENTED = ("SIGIL_STORE_URL",)
# Read by other commands, or by other programs of this project.
_FOREIGN = frozenset(
    {
        "SIGIL_API_KEY",
        "SIGIL_API_KEY_FILE",
        "SIGIL_CA_FILE",
        "SIGIL_SERVER_ID",
        "SIGIL_SERVICE_URL",
        "SIGIL_TEST_VECTORS",
        "SIGIL_DEVICE_HOME",
        # Those of the relay: one file of settings often serves both.
        "RELAY_HOST",
        "RELAY_PORT",
        "RELAY_WS_PORT",
        "RELAY_WORKERS",
        "RELAY_DATA_DIR",
        "RELAY_TRUSTED_SERVERS",
        "RELAY_TRUSTED_SERVERS_FILE",
        "RELAY_TRUST_ON_FIRST_USE",
        "RELAY_PUSH_RATE",
        "RELAY_SERVER_RATE",
        "RELAY_MAX_DEVICES",
        "RELAY_PUSH_CONSOLE",
        "RELAY_WEBPUSH_KEY",
        "RELAY_WEBPUSH_KEY_FILE",
        "RELAY_WEBPUSH_CONTACT",
        "RELAY_WEBPUSH_HOSTS",
        "RELAY_TELEMETRY",
    }
)


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
    _reject_not_implemented(reader)
    reader.warn_unknown({"SIGIL_": "docs/configuration.md", "RELAY_": "docs/relay.md"})
    return replace(config, warnings=tuple(reader.warnings)), reader.faults


def load_mnemonic(environ: Mapping[str, str]) -> Secret:
    """Only the mnemonic, for commands that derive secrets from it; ConfigError."""
    reader = EnvReader(environ)
    mnemonic = _mnemonic(reader)
    if mnemonic is None:
        raise ConfigError(reader.faults or [_NO_MNEMONIC])
    return mnemonic


@dataclass(frozen=True)
class Renewed:
    """The settings that SIGHUP reads again, in addition to the certificate."""

    preset_keys: tuple[Secret, ...]
    revoked_keys: tuple[str, ...]
    attestation: AttestationPolicy
    revoked_devices: frozenset[str]
    warnings: tuple[str, ...]


def load_renewed(environ: Mapping[str, str], running: AttestationPolicy = AttestationPolicy()) -> Renewed:  # noqa: B008
    """Only these: other files may be gone since the start, and must not prevent the revocation of a stolen key.
    ConfigError.
    """
    reader = EnvReader(environ, pipe_seconds=files.RELOAD_PIPE_SECONDS)
    preset, revoked = _api_keys(reader)
    policy = attestation.read_renewed(reader, running)
    devices = _revoked_devices(reader)
    if reader.faults:
        raise ConfigError(reader.faults)
    return Renewed(preset, revoked, policy, devices, tuple(reader.warnings))


@dataclass(frozen=True)
class WebhookSettings:
    """The settings for the webhook commands; the URL and the secrets may be absent."""

    url: Secret | None
    secrets: tuple[Secret, ...]
    state_dir: Path


def load_webhook(environ: Mapping[str, str]) -> WebhookSettings:
    """Only the settings of webhooks and of the state directory, for commands; ConfigError."""
    reader = EnvReader(environ)
    url, secrets = webhooks.url(reader), webhooks.secrets(reader)
    state_dir = _state_dir(reader, read_address(reader))
    if reader.faults:
        raise ConfigError(reader.faults)
    return WebhookSettings(url, secrets, state_dir)


def load_key_prefix(environ: Mapping[str, str]) -> KeyPrefix:
    """`Config.key_prefix`, for commands that need no other setting; ConfigError."""
    reader = EnvReader(environ)
    required = reader.flag("SIGIL_ATTESTATION_REQUIRED", default=False)
    if reader.faults:
        raise ConfigError(reader.faults)
    return _key_prefix(required)


def _key_prefix(live: bool) -> KeyPrefix:
    return "sgk_live_" if live else "sgk_test_"


def load_status_source(environ: Mapping[str, str]) -> StatusSource:
    """Only where Android's status list comes from, for its command; ConfigError."""
    reader = EnvReader(environ)
    source = attestation.read_status_source(reader, _state_dir(reader, read_address(reader)))
    if reader.faults:
        raise ConfigError(reader.faults)
    return source


_NO_MNEMONIC = (
    "SIGIL_MNEMONIC or SIGIL_MNEMONIC_PATH required: set SIGIL_MNEMONIC_PATH to a file (`sigil mnemonic --out FILE` "
    "makes one), or SIGIL_MODE=init for the wizard"
)


def _mnemonic(r: EnvReader) -> Secret | None:
    return r.secret("SIGIL_MNEMONIC", file="SIGIL_MNEMONIC_PATH")


def _read(r: EnvReader) -> Config:
    mnemonic = _mnemonic(r)
    mode = r.choice("SIGIL_MODE", "operational", "operational", "init")
    if mode == "operational" and mnemonic is None and not r.faults:
        r.faults.append(_NO_MNEMONIC)
    address = read_address(r)
    cert, key = tls_pair(r, address)
    preset, revoked = _api_keys(r)
    state_dir = _state_dir(r, address)
    metrics_token, metrics_open = r.token("METRICS_TOKEN")
    init_token, init_token_off = r.token("SIGIL_INIT_TOKEN")
    return Config(
        mode="init" if mode == "init" and mnemonic is None else "operational",
        mnemonic=mnemonic,
        host=address.host,
        port=address.port,
        http_only=address.http_only,
        workers=r.value("SIGIL_WORKERS", None, settings.count(1, 256)) or settings.usable_cores(),
        state_dir=state_dir,
        state_dir_insecure=r.flag("SIGIL_STATE_DIR_INSECURE", default=False),
        store_size=r.value("SIGIL_STORE_SIZE", DEFAULT_STORE_SIZE, settings.size),
        server_name=r.value("SIGIL_SERVER_NAME", "Sigil", settings.display_name),
        public_url=r.value("SIGIL_PUBLIC_URL", None, server_origin),
        relay_url=None if r.is_empty("RELAY_URL") else r.value("RELAY_URL", "http://relay:8080", relay_origin),
        relay_public_url=settings.relay_public_url(r),
        push_content=r.choice("SIGIL_PUSH_CONTENT", "full", "full", "reference"),  # type: ignore[arg-type]
        preset_keys=preset,
        revoked_keys=revoked,
        tls_cert=cert,
        tls_key=key,
        tls_auto_generate=r.flag("TLS_AUTO_GENERATE", default=True),
        telemetry=r.choice("SIGIL_TELEMETRY", "full", "full", "minimal", "none"),  # type: ignore[arg-type]
        metrics_token=metrics_token,
        metrics_open=metrics_open,
        log_level=r.choice("LOG_LEVEL", "info", "debug", "info", "warn", "error"),  # type: ignore[arg-type]
        init_token=init_token,
        init_token_off=init_token_off,
        init_reset=r.flag("SIGIL_INIT_RESET", default=False),
        number_matching=r.flag("SIGIL_NUMBER_MATCHING", default=False),
        max_pending_per_device=r.value("SIGIL_MAX_PENDING_PER_DEVICE", 5, settings.count(1, 100)),
        device_rate=r.value("SIGIL_DEVICE_RATE", 10, settings.rate),
        max_pending_per_key=r.value("SIGIL_MAX_PENDING_PER_KEY", 100_000, settings.count(1, 100_000_000)),
        key_share=r.value("SIGIL_KEY_SHARE", 75, settings.count(1, 100)),
        mpa_exclude_requester=r.flag("SIGIL_MPA_EXCLUDE_REQUESTER", default=False),
        enrol_without_code=r.flag("SIGIL_ENROL_WITHOUT_CODE", default=False),
        device_app=r.flag("SIGIL_DEVICE_APP", default=True),
        web_plain_keys=r.flag("SIGIL_WEB_PLAIN_KEYS", default=False),
        max_enrolments=r.value("SIGIL_MAX_ENROLMENTS", 1000, settings.count(1, 100_000)),
        revoked_devices=_revoked_devices(r),
        rate_limit=r.value("SIGIL_RATE_LIMIT", 600, settings.rate),
        proxies=read_proxies(r),
        webhook=webhooks.target(r),
        tracing=tracing.read_tracing(r, "sigil"),
        attestation=attestation.read_attestation(r),
        android_status=attestation.read_status_source(r, state_dir),
    )


def tls_pair(r: EnvReader, address: Address) -> tuple[Path, Path]:
    """Without both settings, the pair of the directory under our names or those of certbot."""
    if r.text("TLS_CERT_PATH") or r.text("TLS_KEY_PATH"):
        cert, key = r.value("TLS_CERT_PATH", Config.tls_cert, Path), r.value("TLS_KEY_PATH", Config.tls_key, Path)
    else:
        cert, key = file_names.pair_in(TLS_DIRECTORY)
    if not address.http_only:
        r.warnings += file_names.warnings_about(cert, key)
    return cert, key


def _state_dir(r: EnvReader, address: Address) -> Path:
    return r.value("SIGIL_STATE_DIR", Path(f"/dev/shm/sigil-{address.port}"), settings.absolute)  # noqa: S108


def _reject_not_implemented(r: EnvReader) -> None:
    given = [name for name in _VALUES_NOT_IMPLEMENTED if r.text(name)]
    r.faults += [f"{name}: not implemented in this version; unset it" for name in given]


def _api_keys(r: EnvReader) -> tuple[tuple[Secret, ...], tuple[str, ...]]:
    """The pre-set keys and the revocations, with a warning for each pre-set key that looks like a computed one."""
    preset, revoked = _preset(r), _revoked(r)
    for number, key in enumerate(preset, 1):
        # By its number: not even a part of a pre-set key may appear in a log.
        if is_revoked(key.reveal(), revoked):
            r.warnings.append(
                f"API_KEY: key number {number} is revoked by SIGIL_REVOKED_API_KEYS and is rejected; remove it from "
                "API_KEY"
            )
        elif has_computed_form(key.reveal()):
            r.warnings.append(
                f"API_KEY: key number {number} has the form of a computed key; the server accepts its own computed "
                "keys without API_KEY, so remove it, or replace a key of another server by a random one (`openssl rand "
                "-hex 32`). To reject it, list its id in SIGIL_REVOKED_API_KEYS"
            )
    return preset, revoked


def _preset(r: EnvReader) -> tuple[Secret, ...]:
    keys = [key for key in r.secrets("API_KEY") if key]
    # Header values are visible ASCII: a client could not send any other key.
    if any(len(key) < MIN_SECRET_LENGTH or not VISIBLE.match(key) for key in keys):
        r.faults.append(
            f"API_KEY: a key must have {MIN_SECRET_LENGTH} or more visible ASCII characters; `openssl rand -hex 32` "
            "makes one"
        )
    return tuple(Secret(key) for key in keys)


def _revoked(r: EnvReader) -> tuple[str, ...]:
    items = tuple(item for item in re.split(r"[\s,]+", r.list_or_file("SIGIL_REVOKED_API_KEYS")) if item)
    if not all(REVOCATION.match(item) for item in items):
        r.faults.append("SIGIL_REVOKED_API_KEYS: must list the first 8 to 32 lower-case hex characters of key ids")
    return items


def _revoked_devices(r: EnvReader) -> frozenset[str]:
    items = [item for item in re.split(r"[\s,]+", r.list_or_file("SIGIL_REVOKED_DEVICES")) if item]
    if not all(_FINGERPRINT.match(item) for item in items):
        # Not its beginning, as of a key id: a part of a fingerprint could revoke the device of another person.
        r.faults.append("SIGIL_REVOKED_DEVICES: must list whole fingerprints, 64 lower-case hex characters each")
    return frozenset(items)
