"""Normalised addresses of servers: two spellings of one origin become equal, two origins never do."""

from __future__ import annotations

import ipaddress
import re

from sigil.device.errors import AddressRefused

# One strict form rather than a tolerant parser: with user names, backslashes, white space and percent signs before
# the path, two parsers can disagree about the host.
_URL = re.compile(
    r"(https?)://(\[[0-9a-f:.]+\]|[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?)(?::([0-9]{1,5}))?(/[!-~]*)?\Z",
    re.ASCII | re.IGNORECASE,
)
_DEFAULT_PORTS = {"http": 80, "https": 443}
# Not `is_private`: it includes documentation and reserved ranges, and others in each Python version.
_PRIVATE = [
    ipaddress.ip_network(network)
    for network in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "fc00::/7", "fe80::/10")
]


def origin(url: str) -> str:
    """`scheme://host[:port]` in lower case, without a default port; AddressRefused for any other form."""
    return _parts(url)[0]


def base_url(url: str) -> str:
    """The origin that a device may pin: https, or http to this machine; no path. AddressRefused otherwise."""
    normalised, host, path = _parts(url)
    if path not in ("", "/"):
        raise AddressRefused("A server's address must be an origin, such as https://auth.example.com, without a path.")
    if normalised.startswith("http:") and not _is_loopback(host):
        raise AddressRefused("The address must begin with https://; plain http is allowed for loopback only.")
    return normalised


def relay_origin(url: str, *, any_http: bool = False) -> str:
    """The origin of a relay: https, or http to this machine or a private address; no path. AddressRefused otherwise.

    The server signs pushes, and registrations name their origin, so an attacker on the network path can forge neither,
    but can read challenges and hold them back. `any_http` accepts that on any network.
    """
    normalised, host, path = _parts(url)
    if path not in ("", "/"):
        raise AddressRefused("A relay's address must be an origin, such as https://relay.example.com, without a path.")
    if normalised.startswith("http:") and not any_http and not _is_private(host):
        raise AddressRefused(
            "Plain http to a relay is allowed for loopback and private addresses; --insecure-relay allows it anywhere."
        )
    return normalised


def _parts(url: str) -> tuple[str, str, str]:
    match = _URL.match(url)
    if match is None:
        raise AddressRefused("Write the address as https://host or https://host:port.")
    scheme, host = match[1].lower(), match[2].lower()
    if host.startswith("["):
        host = _ipv6(host)
    port = int(match[3]) if match[3] else _DEFAULT_PORTS[scheme]
    if not 0 < port < 65536:
        raise AddressRefused("The port must be 1 to 65535.")
    suffix = "" if port == _DEFAULT_PORTS[scheme] else f":{port}"
    return f"{scheme}://{host}{suffix}", host, match[4] or ""


def _ipv6(host: str) -> str:
    try:
        return f"[{ipaddress.IPv6Address(host[1:-1]).compressed}]"
    except ValueError as error:
        raise AddressRefused("The address in brackets is not an IPv6 address.") from error


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _is_private(host: str) -> bool:
    """By the address alone: a name can resolve to any address."""
    if _is_loopback(host):
        return True
    try:
        address = ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return False
    return any(address in network for network in _PRIVATE)
