"""Settings from the environment and from secret files, for the configuration of a service (its only reader).

A `Reader` collects one line for every wrong value. Lines name the variable and the mend, and never repeat a secret.
"""

from __future__ import annotations

import difflib
import ipaddress
import os
import re
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar
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
"""Characters of a secret that others share with the server."""
_MIN_TOKEN_LENGTH = 16
VISIBLE = re.compile(r"[\x21-\x7e]+\Z")
_MAX_FILE = 64 * 1024
_SIZE = re.compile(r"(\d+)\s*([KMG]?)(?:i?B)?\Z", re.IGNORECASE | re.ASCII)
_RATE = re.compile(r"(\d+)(?:/min)?\Z", re.ASCII)
_TRUE, _FALSE = frozenset({"true", "1", "yes", "on"}), frozenset({"false", "0", "no", "off"})


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


class EnvReader:
    """Collects faults and warnings while values are taken out. `foreign` are names that other programs read."""

    def __init__(self, environ: Mapping[str, str], foreign: frozenset[str] = frozenset()) -> None:
        self._environ = environ
        self._foreign = foreign
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

    def token(self, name: str, *, or_off: bool = False) -> Secret | None:
        """A secret that is sent as a bearer token, and can be guessed at some ten times a minute."""
        token = self.secret(name)
        text = token.reveal() if token else "off"
        is_off = token is None or (or_off and text.lower() == "off")
        if not is_off and (len(text) < _MIN_TOKEN_LENGTH or not VISIBLE.match(text)):
            wanted = f"has at least {_MIN_TOKEN_LENGTH} visible ASCII characters"
            self.faults.append(f"{name}: {wanted}{', or is off' if or_off else ''}")
        return token

    def secret_file(self, name: str, parse: Callable[[str], T]) -> T | None:
        """The content of the secret file that NAME names, parsed; None when it is not set, or with a fault."""
        path = self.text(name)
        content = self._file(name, Path(path)) if path else None
        if content is None:
            return None
        try:
            return parse(content)
        except ValueError as error:
            self.faults.append(f"{name}: {path} {error}")
            return None

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

    def warn_unknown(self, *prefixes: str) -> None:
        """Names that begin with one of `prefixes` and were not asked for, with the nearest known one."""
        known = self._asked | self._foreign
        for name in self._environ:
            if name.startswith(prefixes) and name not in known:
                near = difflib.get_close_matches(name, known, n=1)
                self.warnings.append(f"{name} is not a setting" + (f"; did you mean {near[0]}?" if near else ""))


def usable_cores() -> int:
    """min(CPU affinity, the cgroup's CPU quota), at least 1."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
        return cores if quota == "max" else max(1, min(cores, int(quota) // int(period)))
    except (OSError, ValueError):
        return cores


def port(text: str) -> int:
    return count(1, 65_535)(text)


def count(low: int, high: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not (text.isascii() and text.isdigit() and len(text) <= 12 and low <= int(text) <= high):
            raise ValueError(f"is a whole number from {low} to {high}")
        return int(text)

    return parse


def size(text: str) -> int:
    match = _SIZE.match(text)
    if match is None:
        raise ValueError("is a size such as 512MiB or 2GiB")
    size = int(match[1]) << {"": 0, "K": 10, "M": 20, "G": 30}[match[2].upper()]
    if not 16 << 20 <= size <= 1 << 40:
        raise ValueError("is a size from 16MiB to 1024GiB")
    return size


def rate(text: str) -> int:
    if text.lower() == "off":
        return 0
    match = _RATE.match(text)
    if match is None or len(match[1]) > 12 or not 1 <= int(match[1]) <= 60_000:
        raise ValueError("is a rate such as 10/min (1 to 60000), or off")
    return int(match[1])


def absolute(text: str) -> Path:
    path = Path(text)
    if not path.is_absolute():
        raise ValueError("is an absolute path")
    return path


def printable_name(text: str) -> str:
    if len(text) > 64 or not text.isprintable():
        raise ValueError("is at most 64 printable characters")
    return text


def url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.username or parts.query or parts.fragment:
        raise ValueError("is a URL such as https://host:port, without user, query or fragment")
    _ = parts.port
    return text.rstrip("/")


def https_url(text: str) -> str:
    if urlsplit(text).scheme != "https":
        raise ValueError("is an https URL")
    return url(text)


def origin(text: str) -> str:
    """`scheme://host[:port]` as browsers send it and devices sign it: in lower case, without a default port."""
    parts = urlsplit(url(text))
    if parts.path:
        raise ValueError("is a URL without a path, such as https://sigil.example.com")
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    default = {"http": 80, "https": 443}[parts.scheme]
    return f"{parts.scheme}://{host}" + (f":{parts.port}" if parts.port not in {None, default} else "")


def https_origin(text: str) -> str:
    """The same over https, or http to this host; devices compare that of `respond_to` with the one they pinned."""
    parts = urlsplit(url(text))
    if parts.scheme != "https" and parts.hostname not in {"localhost", "127.0.0.1", "::1"}:
        raise ValueError("is an https URL without a path, such as https://sigil.example.com")
    return origin(text)


def networks(text: str) -> tuple[Network, ...]:
    try:
        return tuple(ipaddress.ip_network(item.strip()) for item in text.split(",") if item.strip())
    except ValueError as error:
        raise ValueError("is a comma-separated list of addresses or networks such as 172.18.0.0/16") from error


def provider(text: str) -> tuple[Network, ...]:
    if text.lower() != "cloudflare":
        raise ValueError("knows one provider: cloudflare")
    return networks(_CLOUDFLARE)
