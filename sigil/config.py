"""The settings of the server: the only reader of the environment and of secret files (docs/configuration.md).

`load(os.environ)` gives a `Config` and warnings, or raises `ConfigError` with one line for every wrong value.
Lines name the variable and the mend, and never repeat a secret.
"""

from __future__ import annotations

import difflib
import ipaddress
import os
import re
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, TypeVar
from urllib.parse import urlsplit

T = TypeVar("T")
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# Cloudflare's published ranges, fixed at release; an operator of newer ranges sets TRUSTED_PROXY_CIDR.
_CLOUDFLARE = (
    "173.245.48.0/20,103.21.244.0/22,103.22.200.0/22,103.31.4.0/22,141.101.64.0/18,108.162.192.0/18,190.93.240.0/20,"
    "188.114.96.0/20,197.234.240.0/22,198.41.128.0/17,162.158.0.0/15,104.16.0.0/13,104.24.0.0/14,172.64.0.0/13,"
    "131.0.72.0/22,2400:cb00::/32,2606:4700::/32,2803:f800::/32,2405:b500::/32,2405:8100::/32,2a06:98c0::/29,"
    "2c0f:f248::/32"
)
MIN_SECRET_LENGTH = 32
SECRETS = ("SIGIL_MNEMONIC", "API_KEY", "WEBHOOK_SECRET", "METRICS_TOKEN", "SIGIL_INIT_TOKEN")
"""Variables whose value is a secret itself."""
_MAX_FILE = 64 * 1024


class ConfigError(Exception):
    """The configuration cannot be used; `lines` holds one clear sentence for each fault."""

    def __init__(self, lines: list[str]) -> None:
        self.lines = lines
        super().__init__("\n".join(lines))


class Secret:
    """A secret text that no repr, log or traceback shows; `reveal()` at the place of use."""

    __slots__ = ("_text",)
    __secret__ = True  # the sign that logs go by

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return "Secret(…)"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._text == other._text

    def __hash__(self) -> int:
        return hash(self._text)


@dataclass(frozen=True)
class Config:
    """All settings of `sigil serve`, parsed. Rates are per minute, 0 for none; sizes in bytes."""

    mode: Literal["operational", "init"] = "operational"
    mnemonic: Secret | None = None
    host: str = "0.0.0.0"
    port: int = 8443
    http_only: bool = False
    workers: int = 1
    state_dir: Path = Path("/dev/shm/sigil-8443")  # noqa: S108 - checked for owner, links and mode before use
    state_dir_insecure: bool = False
    store_size: int = 2 * 1024**3
    server_name: str = "Sigil"
    public_url: str | None = None
    relay_url: str | None = None
    relay_public_url: str | None = None
    preset_keys: tuple[Secret, ...] = ()
    revoked_keys: tuple[str, ...] = ()
    tls_cert: Path = Path("/var/lib/sigil/tls/cert.pem")
    tls_key: Path = Path("/var/lib/sigil/tls/key.pem")
    tls_auto_generate: bool = True
    telemetry: Literal["full", "minimal", "none"] = "full"
    metrics_token: Secret | None = None
    log_level: Literal["debug", "info", "warn", "error"] = "info"
    number_matching: bool = False
    max_pending_per_device: int = 5
    device_rate: int = 10
    rate_limit: int = 600
    trusted_proxies: tuple[Network, ...] = ()
    use_cf_connecting_ip: bool = False
    warnings: tuple[str, ...] = field(default=(), compare=False)

    @property
    def live_keys(self) -> bool:
        """Whether this server issues live API keys; only one that requires attestation does."""
        return False


_TRUE, _FALSE = frozenset({"true", "1", "yes", "on"}), frozenset({"false", "0", "no", "off"})
# Named in the documentation, but built later: set, they stop the start rather than pretend.
_NOT_BUILT: dict[str, Callable[[str], bool]] = {
    "SIGIL_ATTESTATION_REQUIRED": lambda value: value.lower() in _TRUE,
    "SIGIL_ALLOW_EMULATORS": lambda value: value.lower() in _TRUE,
    "SIGIL_STORE_URL": bool,
    "WEBHOOK_URL": bool,
    "WEBHOOK_URL_FILE": bool,
}
# Read by other commands, by other programs of this project, or by parts that are not built yet.
_FOREIGN = {
    "SIGIL_API_KEY",
    "SIGIL_SERVICE_URL",
    "SIGIL_TEST_VECTORS",
    "SIGIL_DEVICE_HOME",
    "SIGIL_WEBHOOK_SCHEDULE",
    "SIGIL_PUSH_CONTENT",
    "SIGIL_MPA_EXCLUDE_REQUESTER",
    "SIGIL_INIT_TOKEN",
    "SIGIL_INIT_TOKEN_FILE",
    "SIGIL_INIT_RESET",
}
_SIZE = re.compile(r"(\d+)\s*([KMG]?)(?:i?B)?\Z", re.IGNORECASE | re.ASCII)
_RATE = re.compile(r"(\d+)(?:/min)?\Z", re.ASCII)
_VISIBLE = re.compile(r"[\x21-\x7e]+\Z")
_REVOCATION = re.compile(r"[0-9a-f]{8,32}\Z")


def load(environ: Mapping[str, str]) -> Config:
    """Parse the environment; raises ConfigError with every fault at once."""
    reader = _Reader(environ)
    config = _read(reader)
    reader.refuse_not_built()
    reader.warn_unknown()
    if reader.faults:
        raise ConfigError(reader.faults)
    return replace(config, warnings=tuple(reader.warnings))


def load_mnemonic(environ: Mapping[str, str]) -> Secret:
    """The mnemonic alone, for commands that derive from it; ConfigError."""
    reader = _Reader(environ)
    mnemonic = _mnemonic(reader)
    if mnemonic is None:
        raise ConfigError(reader.faults or [_NO_MNEMONIC])
    return mnemonic


@dataclass(frozen=True)
class Address:
    """Where this host's server can be reached from this host, and with which certificate."""

    host: str
    port: int
    http_only: bool
    tls_cert: Path


def load_address(environ: Mapping[str, str]) -> Address:
    """The address alone, for a health check that is given no secrets; ConfigError."""
    reader = _Reader(environ)
    address = _address(reader)
    if reader.faults:
        raise ConfigError(reader.faults)
    return address


_NO_MNEMONIC = "SIGIL_MNEMONIC or SIGIL_MNEMONIC_PATH required"


def _mnemonic(r: _Reader) -> Secret | None:
    return r.secret("SIGIL_MNEMONIC", file="SIGIL_MNEMONIC_PATH")


def _address(r: _Reader) -> Address:
    http_port = r.value("SIGIL_HTTP_PORT", None, _port)
    port = http_port or r.value("SIGIL_PORT", 8443, _port)
    host = r.value("SIGIL_HOST", "0.0.0.0", str)
    reached = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return Address(reached, port, http_port is not None, r.value("TLS_CERT_PATH", Config.tls_cert, Path))


def _read(r: _Reader) -> Config:
    mnemonic = _mnemonic(r)
    mode = r.choice("SIGIL_MODE", "operational", "operational", "init")
    if mode == "operational" and mnemonic is None and not r.faults:
        r.faults.append(_NO_MNEMONIC)
    address = _address(r)
    nobody: tuple[Network, ...] = ()
    proxies = (
        r.value("TRUSTED_PROXY_IP", nobody, _networks)
        + r.value("TRUSTED_PROXY_CIDR", nobody, _networks)
        + r.value("TRUSTED_PROXY_PROVIDER", nobody, _provider)
    )
    return Config(
        mode="init" if mode == "init" and mnemonic is None else "operational",
        mnemonic=mnemonic,
        host=r.value("SIGIL_HOST", "0.0.0.0", str),
        port=address.port,
        http_only=address.http_only,
        workers=r.value("SIGIL_WORKERS", None, _count(1, 256)) or usable_cores(),
        state_dir=r.value("SIGIL_STATE_DIR", Path(f"/dev/shm/sigil-{address.port}"), _absolute),  # noqa: S108
        state_dir_insecure=r.flag("SIGIL_STATE_DIR_INSECURE", default=False),
        store_size=r.value("SIGIL_STORE_SIZE", 2 * 1024**3, _size),
        server_name=r.value("SIGIL_SERVER_NAME", "Sigil", _name),
        public_url=r.value("SIGIL_PUBLIC_URL", None, _https_origin),
        relay_url=r.value("RELAY_URL", "http://relay:8080", _url) if r.text("RELAY_URL") != "" else None,
        relay_public_url=r.value("RELAY_PUBLIC_URL", None, _url),
        preset_keys=_preset(r),
        revoked_keys=_revoked(r),
        tls_cert=address.tls_cert,
        tls_key=r.value("TLS_KEY_PATH", Config.tls_key, Path),
        tls_auto_generate=r.flag("TLS_AUTO_GENERATE", default=True),
        telemetry=r.choice("SIGIL_TELEMETRY", "full", "full", "minimal", "none"),  # type: ignore[arg-type]
        metrics_token=r.secret("METRICS_TOKEN"),
        log_level=r.choice("LOG_LEVEL", "info", "debug", "info", "warn", "error"),  # type: ignore[arg-type]
        number_matching=r.flag("SIGIL_NUMBER_MATCHING", default=False),
        max_pending_per_device=r.value("SIGIL_MAX_PENDING_PER_DEVICE", 5, _count(1, 100)),
        device_rate=r.value("SIGIL_DEVICE_RATE", 10, _rate),
        rate_limit=r.value("SIGIL_RATE_LIMIT", 600, _rate),
        trusted_proxies=proxies,
        use_cf_connecting_ip=r.flag("USE_CF_CONNECTING_IP", default=False),
    )


def usable_cores() -> int:
    """min(CPU affinity, the cgroup's CPU quota), at least 1."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
        return cores if quota == "max" else max(1, min(cores, int(quota) // int(period)))
    except (OSError, ValueError):
        return cores


class _Reader:
    """Collects faults and warnings while values are taken out."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self._asked: set[str] = set()
        self.faults: list[str] = []
        self.warnings: list[str] = []

    def text(self, name: str) -> str | None:
        self._asked.add(name)
        value = self._environ.get(name)
        return None if value is None else value.strip()

    def value(self, name: str, default: T, parse: Callable[[str], T]) -> T:
        text = self.text(name)
        if not text:
            return default
        try:
            return parse(text)
        except ValueError as error:
            self.faults.append(f"{name}: {error}")
            return default

    def choice(self, name: str, default: str, *choices: str) -> str:
        def parse(text: str) -> str:
            if text.lower() not in choices:
                raise ValueError(f"is one of {', '.join(choices)}")
            return text.lower()

        return self.value(name, default, parse)

    def flag(self, name: str, *, default: bool) -> bool:
        def parse(text: str) -> bool:
            if text.lower() in _TRUE | _FALSE:
                return text.lower() in _TRUE
            raise ValueError("is true or false")

        return self.value(name, default, parse)

    def secret(self, name: str, *, file: str | None = None) -> Secret | None:
        """NAME, or the content of the file that NAME_FILE (or `file`) names; both at once is a fault."""
        file = file or f"{name}_FILE"
        text, path = self.text(name), self.text(file)
        if text and path:
            self.faults.append(f"{name} and {file} are both set: keep one")
            return None
        if path:
            text = self._file(file, Path(path))
        if path and text == "":
            self.faults.append(f"{file}: {path} is empty")
        return Secret(text) if text else None

    def list_or_file(self, name: str) -> str:
        """Like a secret, for what is none: nothing in the variable or in the file means nothing."""
        text, path = self.text(name), self.text(f"{name}_FILE")
        if text and path:
            self.faults.append(f"{name} and {name}_FILE are both set: keep one")
        return (self._file(f"{name}_FILE", Path(path), secret=False) if path else text) or ""

    def _file(self, name: str, path: Path, *, secret: bool = True) -> str | None:
        try:
            with path.open("rb") as file:
                if secret and stat.S_IMODE(os.fstat(file.fileno()).st_mode) & 0o077:
                    self.warnings.append(f"{name}: others can read {path}; chmod 600 it")
                content = file.read(_MAX_FILE + 1)
            if len(content) <= _MAX_FILE:
                return content.decode().strip()
            self.faults.append(f"{name}: {path} is larger than 64 KiB")
        except OSError as error:
            self.faults.append(f"{name}: cannot read {path}: {error.strerror}")
        except UnicodeDecodeError:
            self.faults.append(f"{name}: {path} is not text")
        return None

    def refuse_not_built(self) -> None:
        for name, is_set in _NOT_BUILT.items():
            if is_set(self.text(name) or ""):
                self.faults.append(f"{name}: not built yet in this version; unset it to start")

    def warn_unknown(self) -> None:
        known = self._asked | _FOREIGN
        for name in self._environ:
            if name.startswith(("SIGIL_", "RELAY_")) and name not in known:
                near = difflib.get_close_matches(name, known, n=1)
                self.warnings.append(f"{name} is not a setting" + (f"; did you mean {near[0]}?" if near else ""))


def _preset(r: _Reader) -> tuple[Secret, ...]:
    secret = r.secret("API_KEY")
    keys = [key.strip() for key in secret.reveal().split(",") if key.strip()] if secret else []
    # Header values are visible ASCII: another key could never be sent.
    if any(len(key) < MIN_SECRET_LENGTH or not _VISIBLE.match(key) for key in keys):
        r.faults.append(
            f"API_KEY: every key has at least {MIN_SECRET_LENGTH} visible ASCII characters; `sigil keygen` makes one"
        )
    return tuple(Secret(key) for key in keys)


def _port(text: str) -> int:
    return _count(1, 65_535)(text)


def _count(low: int, high: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not (text.isascii() and text.isdigit() and len(text) <= 12 and low <= int(text) <= high):
            raise ValueError(f"is a whole number from {low} to {high}")
        return int(text)

    return parse


def _size(text: str) -> int:
    match = _SIZE.match(text)
    if match is None:
        raise ValueError("is a size such as 512MiB or 2GiB")
    size = int(match[1]) << {"": 0, "K": 10, "M": 20, "G": 30}[match[2].upper()]
    if not 16 << 20 <= size <= 1 << 40:
        raise ValueError("is a size from 16MiB to 1024GiB")
    return size


def _rate(text: str) -> int:
    if text.lower() == "off":
        return 0
    match = _RATE.match(text)
    if match is None or len(match[1]) > 12 or not 1 <= int(match[1]) <= 60_000:
        raise ValueError("is a rate such as 10/min (1 to 60000), or off")
    return int(match[1])


def _absolute(text: str) -> Path:
    path = Path(text)
    if not path.is_absolute():
        raise ValueError("is an absolute path")
    return path


def _name(text: str) -> str:
    if len(text) > 64 or not text.isprintable():
        raise ValueError("is at most 64 printable characters")
    return text


def _url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.username or parts.query or parts.fragment:
        raise ValueError("is a URL such as https://host:port, without user, query or fragment")
    _ = parts.port
    return text.rstrip("/")


def _https_origin(text: str) -> str:
    """`https://host[:port]`: devices compare the origin of `respond_to` with the one they pinned."""
    url = _url(text)
    parts = urlsplit(url)
    loopback = parts.hostname in {"localhost", "127.0.0.1", "::1"}
    if parts.path or (parts.scheme != "https" and not loopback):
        raise ValueError("is an https URL without a path, such as https://sigil.example.com")
    return url


def _networks(text: str) -> tuple[Network, ...]:
    try:
        return tuple(ipaddress.ip_network(item.strip()) for item in text.split(",") if item.strip())
    except ValueError as error:
        raise ValueError("is a comma-separated list of addresses or networks such as 172.18.0.0/16") from error


def _provider(text: str) -> tuple[Network, ...]:
    if text.lower() != "cloudflare":
        raise ValueError("knows one provider: cloudflare")
    return _networks(_CLOUDFLARE)


def _revoked(r: _Reader) -> tuple[str, ...]:
    items = tuple(item for item in re.split(r"[\s,]+", r.list_or_file("SIGIL_REVOKED_API_KEYS")) if item)
    if not all(_REVOCATION.match(item) for item in items):
        r.faults.append("SIGIL_REVOKED_API_KEYS: is a list of 8 to 32 lower-case hex characters of key ids")
    return items
