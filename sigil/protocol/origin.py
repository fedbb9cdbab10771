"""The grammar of an origin, the same for server, relay, device and SDK (docs/protocol.md, 1.1)."""

from __future__ import annotations

import ipaddress
import re
from typing import NamedTuple

from sigil.protocol.encoding.plain_text import NotPlainText, check

# One strict form rather than a tolerant parser: with user names, backslashes, white space and percent signs, two
# parsers can disagree about the host.
_ORIGIN = re.compile(r"(https?)://(\[[0-9a-f:.]*\]|[^\[\]/:?#@\\]+)(?::([0-9]{1,5}))?/?\Z", re.ASCII | re.IGNORECASE)
_URL = re.compile(r"(https?://[!-~]+?)(?:/[!-~]*)?\Z", re.ASCII | re.IGNORECASE)
_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\Z", re.ASCII)
# Browsers read a name that ends in such a label as an IPv4 address (WHATWG URL, "ends in a number").
_NUMBER = re.compile(r"(?:[0-9]+|0x[0-9a-f]*)\Z", re.ASCII)
_DEFAULT_PORTS = {"http": 80, "https": 443}
_MAX_NAME = 253
_LOOPBACK = (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128"))
# Not `is_private`: it includes documentation and reserved ranges, and others in each Python version.
_PRIVATE = tuple(
    ipaddress.ip_network(network)
    for network in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "fc00::/7", "fe80::/10")
)
_EXAMPLE = "such as https://sigil.example.com"


class NotAnOrigin(ValueError):
    """The message completes "<name> …", and repeats nothing of the text."""


class Origin(NamedTuple):
    """`str` gives the one canonical form: lower case, no default port, IPv6 as browsers write it."""

    scheme: str
    host: str
    port: int

    def __str__(self) -> str:
        suffix = "" if self.port == _DEFAULT_PORTS[self.scheme] else f":{self.port}"
        return f"{self.scheme}://{self.host}{suffix}"

    @property
    def is_loopback(self) -> bool:
        """By the text alone: `localhost`, 127.0.0.0/8, [::1]."""
        return self.host == "localhost" or self._is_in(_LOOPBACK)

    @property
    def is_private(self) -> bool:
        """Loopback, or an address of a private or link-local network; of a name only `localhost`, since any other can
        resolve to any address.
        """
        return self.is_loopback or self._is_in(_PRIVATE)

    @property
    def has_webauthn(self) -> bool:
        """Whether browsers have WebAuthn and service workers on it: https with a host name, or http://localhost
        (development). An IP address has no WebAuthn.
        """
        is_address = self.host.startswith("[") or _NUMBER.match(self.host.rpartition(".")[2])
        return not is_address and (self.scheme == "https" or self.host == "localhost")

    def _is_in(self, networks: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]) -> bool:
        try:
            address = ipaddress.ip_address(self.host.strip("[]"))
        except ValueError:
            return False
        return any(address in network for network in networks)


def parse_origin(text: str) -> Origin:
    """Any spelling that the grammar accepts; NotAnOrigin."""
    match = _ORIGIN.match(text)
    if match is None or not (text.isascii() and text.isprintable()) or " " in text:
        raise NotAnOrigin(_problem_of(text))
    scheme, host = match[1].lower(), match[2].lower()
    if host.startswith("["):
        host = _ipv6(host)
    elif problem := _problem_of_name(host):
        raise NotAnOrigin(problem)
    port = int(match[3]) if match[3] else _DEFAULT_PORTS[scheme]
    if not 0 < port < 65536:
        raise NotAnOrigin("must have a port from 1 to 65535, or none")
    return Origin(scheme, host, port)


def server_origin(text: str) -> str:
    """The canonical origin of a server: https, or http to this machine for development; NotAnOrigin."""
    origin = parse_origin(text)
    if origin.scheme != "https" and not origin.is_loopback:
        raise NotAnOrigin("must begin with https://; plain http is for http://localhost in development alone")
    return str(origin)


def web_origin(text: str | None) -> str | None:
    """`text`, a server's canonical origin, where browsers have WebAuthn and service workers for it; else None."""
    return text if text is not None and parse_origin(text).has_webauthn else None


def relay_origin(text: str) -> str:
    """The canonical origin of a relay; NotAnOrigin. Which plain http is safe, its user decides by `is_private`."""
    return str(parse_origin(text))


def origin_of_url(url: str) -> str:
    """The canonical origin of an http or https URL that may have a path; NotAnOrigin."""
    match = _URL.match(url)
    if match is None:
        raise NotAnOrigin(_problem_of(url))
    return str(parse_origin(match[1]))


def _problem_of(text: str) -> str:
    try:
        check(text)
    except NotPlainText as error:
        return str(error)
    if any(char.isspace() for char in text):
        return "must be an address without blanks"
    if not text.isascii():
        return "must be ASCII: write an international host name in its punycode form, xn--…"
    if "@" in text:
        return "must be a URL without user and password"
    if re.match(r"https?://[^/?#\\]+[/?#\\]", text, re.IGNORECASE):
        return f"must be a URL without a path, {_EXAMPLE}"
    return f"must be a URL {_EXAMPLE} or https://sigil.example.com:8443"


def _problem_of_name(host: str) -> str | None:
    labels = host.split(".")
    if _NUMBER.match(labels[-1]):
        try:
            ipaddress.IPv4Address(host)
        except ValueError:
            return "must have a host name, or an IPv4 address of four decimal numbers"
        return None
    if host.endswith("."):
        return "must have a host name without a dot at its end"
    if "_" in host:
        return "must have a host name without an underscore: devices and certificates accept none"
    if len(host) > _MAX_NAME or any(len(label) > 63 or not label for label in labels):
        return f"must be a URL whose host has labels of 1 to 63 characters, {_MAX_NAME} in all"
    if not all(_LABEL.match(label) for label in labels):
        return "must have a host name of letters, digits and hyphens, with no hyphen at an end of a label"
    return None


def _ipv6(host: str) -> str:
    try:
        address = ipaddress.IPv6Address(host[1:-1])
    except ValueError:
        raise NotAnOrigin("must have an IPv6 address in its brackets") from None
    if address.ipv4_mapped:
        # Python 3.13 writes these with dots, browsers and older versions do not.
        return f"[::ffff:{int.from_bytes(address.packed[12:14]):x}:{int.from_bytes(address.packed[14:]):x}]"
    return f"[{address.compressed}]"
