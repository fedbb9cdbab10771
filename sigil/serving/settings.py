"""Settings from the environment and from secret files. Only the configuration of a service uses this module.

An `EnvReader` collects one line for every wrong value. A line names the variable and the correction, and never repeats
a secret.
"""

from __future__ import annotations

import difflib
import ipaddress
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

from sigil.protocol.encoding import plain_text
from sigil.protocol.encoding.display_text import problem_of
from sigil.protocol.encoding.plain_text import NotPlainText
from sigil.protocol.origin import parse_origin, relay_origin
from sigil.serving import foreign_variables
from sigil.serving.bounded import files
from sigil.serving.files.errors import file_error
from sigil.serving.foreign_variables import SERVICE_LINK

T = TypeVar("T")
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

MIN_SECRET_LENGTH = 32
"""Characters of a secret that another party shares with the server."""
_MIN_TOKEN_LENGTH = 16
VISIBLE = re.compile(r"[\x21-\x7e]+\Z")
# Two transposed letters of a short name pass. The common prefix alone does not: SIGIL_TEST and SIGIL_HOST are 0.8.
_SIMILAR = 0.82
_SIZE = re.compile(r"(\d+)\s*([KMG]?)(?:i?B)?\Z", re.IGNORECASE | re.ASCII)
_RATE = re.compile(r"(\d+)(?:/min)?\Z", re.ASCII)
_TRUE, _FALSE = frozenset({"true", "1", "yes", "on"}), frozenset({"false", "0", "no", "off"})


class ConfigError(Exception):
    """The configuration cannot be used; `lines` holds one line for each wrong value."""

    def __init__(self, lines: list[str]) -> None:
        self.lines = lines
        super().__init__("\n".join(lines))


class Secret:
    """A secret text that no repr, log or traceback shows; call `reveal()` where it is used."""

    __slots__ = ("_text",)
    __secret__ = True  # see `redaction`

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
    """Collects faults and warnings while values are read. `foreign` are the names that other programs read.
    `pipe_seconds` is how long a pipe in place of a file may deliver nothing.
    """

    def __init__(
        self,
        environ: Mapping[str, str],
        foreign: frozenset[str] = frozenset(),
        pipe_seconds: float = files.PIPE_SECONDS,
    ) -> None:
        self._environ = environ
        self._pipe_seconds = pipe_seconds
        self._foreign = foreign
        self._known: set[str] = set()
        self._unusable: set[str] = set()
        self.faults: list[str] = []
        self.warnings: list[str] = []

    def text(self, name: str) -> str | None:
        """None for an empty variable too: a Compose file passes each setting as `NAME: ${NAME:-}`."""
        self._known.add(name)
        given = self._environ.get(name, "")
        try:
            return plain_text.check(given) or None
        except NotPlainText as error:
            if name not in self._unusable:
                self._unusable.add(name)
                self.faults.append(f"{name}: {error}")
            # One fault is enough: no other about the same value follows.
            return plain_text.cleaned(given) or None

    def is_empty(self, name: str) -> bool:
        """Whether NAME is set to an empty text, for a setting to which that is a value of its own."""
        self._known.add(name)
        return not plain_text.stripped(self._environ.get(name, "unset"))

    def value(self, name: str, default: T, parse: Callable[[str], T]) -> T:
        text = self.text(name)
        if text is None:
            return default
        try:
            return parse(text)
        except ValueError as error:
            self.faults.append(f"{name}: {error}")
            return default

    def choice(self, name: str, default: str, *choices: str) -> str:
        def parse(text: str) -> str:
            if text.lower() not in choices:
                raise ValueError(f"must be one of {', '.join(choices)}")
            return text.lower()

        return self.value(name, default, parse)

    def flag(self, name: str, *, default: bool) -> bool:
        def parse(text: str) -> bool:
            if text.lower() in _TRUE | _FALSE:
                return text.lower() in _TRUE
            raise ValueError("must be on or off (or true or false, yes or no, 1 or 0)")

        return self.value(name, default, parse)

    def secret(self, name: str, *, file: str | None = None) -> Secret | None:
        """The value of NAME, or the content of the file that NAME_FILE (or `file`) names; both at once is a fault."""
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

    def token(self, name: str) -> tuple[Secret | None, bool]:
        """A secret that is sent as a bearer token; guesses are limited to about ten a minute. For the value `off` the
        token is None and the flag True.
        """
        token = self.secret(name)
        text = token.reveal() if token else ""
        if text.lower() == "off":
            return None, True
        if token and (len(text) < _MIN_TOKEN_LENGTH or not VISIBLE.match(text)):
            self.faults.append(f"{name}: must have at least {_MIN_TOKEN_LENGTH} visible ASCII characters, or be off")
        return token, False

    def secret_file(self, name: str, parse: Callable[[str], T]) -> T | None:
        """The parsed content of the secret file that NAME names; None when NAME is not set, or after a fault."""
        return self._parsed_file(name, parse, secret=True)

    def public_file(self, name: str, parse: Callable[[str], T]) -> T | None:
        """Like `secret_file`, for a file that others may read."""
        return self._parsed_file(name, parse, secret=False)

    def _parsed_file(self, name: str, parse: Callable[[str], T], *, secret: bool) -> T | None:
        path = self.text(name)
        content = self._file(name, Path(path), secret=secret) if path else None
        if content is None:
            return None
        try:
            return parse(content)
        except ValueError as error:
            self.faults.append(f"{name}: {path} {error}")
            return None

    def secrets(self, name: str) -> list[str]:
        """The items of a comma-separated secret, such as `new,old`."""
        given = self.secret(name)
        items = [item.strip() for item in given.reveal().split(",")] if given else []
        if any(map(plain_text.is_quoted, items)):
            self.faults.append(f"{name}: an item is in quotes: remove them, they are not part of the value")
        return items

    def list_or_file(self, name: str) -> str:
        """Like `secret`, for a value that is not one; an empty variable or file gives an empty text."""
        text, path = self.text(name), self.text(f"{name}_FILE")
        if text and path:
            self.faults.append(f"{name} and {name}_FILE are both set: keep one")
        return (self._file(f"{name}_FILE", Path(path), secret=False) if path else text) or ""

    def _file(self, name: str, path: Path, *, secret: bool = True) -> str | None:
        try:
            mode, content = files.read(path, pipe_seconds=self._pipe_seconds)
            if secret and mode & 0o077:
                self.warnings.append(f"{name}: others can read {path}; chmod 600 it")
            elif mode & 0o002:
                self.warnings.append(f"{name}: every user can change {path}; chmod o-w it")
            if len(content) <= files.MAX_BYTES:
                return plain_text.text_of(content)
            self.faults.append(f"{name}: {path} is larger than 64 KiB")
        except OSError as error:
            self.faults.append(f"{name}: {file_error('read', path, error)}")
        except NotPlainText as error:
            self.faults.append(f"{name}: {path} {error}")
        return None

    def warn_unknown(self, documented: Mapping[str, str]) -> None:
        """A warning for every name that was not read and begins with a prefix in `documented` (prefix -> the document
        that lists its settings). It suggests a similar name, if there is one. Also warnings about variables of other
        programs that have no effect here, or a bad one.
        """
        known = self._known | self._foreign
        given = {name: value for name, value in self._environ.items() if value.strip() and name not in known}
        unknown, links = foreign_variables.without_links(
            {name: value for name, value in given.items() if name.startswith(tuple(documented))}
        )
        for name in unknown:
            prefix = next(prefix for prefix in documented if name.startswith(prefix))
            bare = name.removeprefix(prefix)
            similar = [bare] if bare in known else difflib.get_close_matches(name, known, n=1, cutoff=_SIMILAR)
            hint = f"did you mean {similar[0]}?" if similar else f"{documented[prefix]} lists them"
            self.warnings.append(f"{name} is not a setting; {hint}")
        if links and not any(SERVICE_LINK in fault for fault in self.faults):
            self.warnings.append(foreign_variables.link_warning(links))
        all_given = dict(self._environ)
        self.warnings += foreign_variables.exporter_warnings(all_given, self._known)
        self.warnings += foreign_variables.certificate_warnings(all_given)


def usable_cores() -> int:
    """min(CPU affinity, the cgroup's CPU quota), at least 1."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
        return cores if quota == "max" else max(1, min(cores, int(quota) // int(period)))
    except (OSError, ValueError):
        return cores


def port(text: str) -> int:
    if foreign_variables.is_link_value(text):
        raise ValueError(SERVICE_LINK)
    return count(1, 65_535)(text)


def count(low: int, high: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not (text.isascii() and text.isdigit() and len(text) <= 12 and low <= int(text) <= high):
            raise ValueError(f"must be a whole number from {low} to {high}")
        return int(text)

    return parse


def size(text: str) -> int:
    match = _SIZE.match(text)
    if match is None:
        raise ValueError("must be a size such as 512MiB or 2GiB")
    size = int(match[1]) << {"": 0, "K": 10, "M": 20, "G": 30}[match[2].upper()]
    if not 16 << 20 <= size <= 1 << 40:
        raise ValueError("must be a size from 16MiB to 1024GiB")
    return size


def rate(text: str) -> int:
    if text.lower() == "off":
        return 0
    match = _RATE.match(text)
    if match is None or len(match[1]) > 12 or not 1 <= int(match[1]) <= 60_000:
        raise ValueError("must be a rate such as 10/min (1 to 60000), or off")
    return int(match[1])


def absolute(text: str) -> Path:
    path = Path(text)
    if not path.is_absolute():
        raise ValueError("must be an absolute path")
    return path


def display_name(text: str) -> str:
    if len(text) > 64:
        raise ValueError("must be at most 64 characters")
    if problem := problem_of(text):
        raise ValueError(f"must be displayable text: {problem}")
    return text


def url(text: str) -> str:
    if not text.isprintable():
        # urlsplit drops tabs and newlines.
        raise ValueError("must be a URL on one line")
    parts = urlsplit(text)
    if (
        parts.scheme not in {"http", "https"}
        or not parts.hostname
        or "@" in parts.netloc
        or parts.query
        or parts.fragment
    ):
        raise ValueError("must be a URL such as https://host:port, without user, query or fragment")
    _ = parts.port
    try:
        _ = ":" in parts.hostname or parts.hostname.encode("idna")
    except UnicodeError as error:
        raise ValueError("must be a URL whose host has labels of 1 to 63 characters") from error
    return text.rstrip("/")


def https_url(text: str) -> str:
    if urlsplit(text).scheme != "https":
        raise ValueError("must be an https URL")
    return url(text)


def relay_public_url(r: EnvReader) -> str | None:
    """The relay's origin for devices, with a warning for one that devices refuse without --insecure-relay."""
    given = r.value("RELAY_PUBLIC_URL", None, relay_origin)
    if given is not None and given.startswith("http:") and not parse_origin(given).is_private:
        r.warnings.append(
            "RELAY_PUBLIC_URL: devices accept plain http for localhost and private addresses alone: use https"
        )
    return given


def networks(text: str) -> tuple[Network, ...]:
    try:
        return tuple(ipaddress.ip_network(item.strip()) for item in text.split(",") if item.strip())
    except ValueError as error:
        raise ValueError("must be a comma-separated list of addresses or networks such as 172.18.0.0/16") from error
