"""Cloudflare's address ranges: the list of this release, and the rules for a list that was fetched.

A host in these ranges can name any client in CF-Connecting-IP. So a fetched list is a claim to check: these rules bound
what a list with wrong entries could make the server trust.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sigil.serving.settings import Network

_IPV4 = """
173.245.48.0/20 103.21.244.0/22 103.22.200.0/22 103.31.4.0/22 141.101.64.0/18 108.162.192.0/18 190.93.240.0/20
188.114.96.0/20 197.234.240.0/22 198.41.128.0/17 162.158.0.0/15 104.16.0.0/13 104.24.0.0/14 172.64.0.0/13
131.0.72.0/22
"""
_IPV6 = "2400:cb00::/32 2606:4700::/32 2803:f800::/32 2405:b500::/32 2405:8100::/32 2a06:98c0::/29 2c0f:f248::/32"
EMBEDDED: tuple[Network, ...] = (
    *sorted(ipaddress.IPv4Network(text) for text in _IPV4.split()),
    *sorted(ipaddress.IPv6Network(text) for text in _IPV6.split()),
)
"""The published ranges at the time of the release."""

MAX_LIST = 64 * 1024
"""Bytes of one list; the published ones have about 250."""
_MAX_RANGES = 128
_LINE = re.compile(r"[0-9a-f:.]{2,45}/[0-9]{1,3}\Z", re.ASCII)


@dataclass(frozen=True)
class _Limits:
    """Of one list. The published lists have a /13 and a /29 as their widest range, 1.5 million IPv4 addresses, and 14
    IPv6 ranges of the size /32.
    """

    version: int
    widest: int
    max_addresses: int
    public: tuple[Network, ...]
    special: tuple[Network, ...]


def _networks(text: str) -> tuple[Network, ...]:
    return tuple(ipaddress.ip_network(network) for network in text.split())


_LIMITS = (
    _Limits(
        version=4,
        widest=11,
        max_addresses=1 << 23,
        public=_networks("0.0.0.0/0"),
        # IANA's registry of special-purpose addresses, and everything from multicast on.
        special=_networks(
            "0.0.0.0/8 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 169.254.0.0/16 172.16.0.0/12 192.0.0.0/24 192.0.2.0/24 "
            "192.88.99.0/24 192.168.0.0/16 198.18.0.0/15 198.51.100.0/24 203.0.113.0/24 224.0.0.0/3"
        ),
    ),
    _Limits(
        version=6,
        widest=28,
        max_addresses=1 << 103,
        # The only block of which public addresses are assigned: loopback, mapped IPv4 and private ones are outside.
        public=_networks("2000::/3"),
        special=_networks("2001::/23 2001:db8::/32 2002::/16 3fff::/20"),
    ),
)


class UnusableList(ValueError):
    """A fetched list that must not be used; the text is the reason."""


def read_lists(ipv4: bytes, ipv6: bytes) -> tuple[Network, ...]:
    """The ranges of the two published lists, sorted; UnusableList. One range a line, as `network/prefix`."""
    return tuple(network for limits, body in zip(_LIMITS, (ipv4, ipv6), strict=True) for network in _read(limits, body))


def _read(limits: _Limits, body: bytes) -> list[Network]:
    name = f"ips-v{limits.version}"
    if len(body) > MAX_LIST:
        raise UnusableList(f"{name} is larger than {MAX_LIST} bytes")
    lines = body.decode("latin-1").split()
    if not 1 <= len(lines) <= _MAX_RANGES:
        raise UnusableList(f"{name} has {len(lines)} lines, and 1 to {_MAX_RANGES} are plausible")
    found = [_network(name, line) for line in lines]
    for network in found:
        _check(name, limits, network)
    distinct = list(ipaddress.collapse_addresses(found))  # type: ignore[type-var]
    if _addresses(distinct) > limits.max_addresses:
        raise UnusableList(f"{name} has far more addresses than Cloudflare")
    known = [network for network in EMBEDDED if network.version == limits.version]
    if 2 * _shared(known, distinct) < _addresses(known):
        raise UnusableList(f"{name} lacks more than half of the addresses that this release knows as Cloudflare's")
    return sorted(set(found))


def _network(name: str, line: str) -> Network:
    # The line is not repeated: it is what another party wrote, and it may be an HTML page.
    if not _LINE.match(line):
        raise UnusableList(f"{name} has a line that is not a range")
    try:
        return ipaddress.ip_network(line)
    except ValueError:
        raise UnusableList(f"{name} has a line that is not a range") from None


def _check(name: str, limits: _Limits, network: Network) -> None:
    if network.version != limits.version:
        raise UnusableList(f"{name} has the range {network} of the other version")
    if network.prefixlen < limits.widest:
        raise UnusableList(f"{name} has the range {network}, wider than /{limits.widest}")
    public = any(network.subnet_of(block) for block in limits.public)  # type: ignore[arg-type]
    if not public or any(network.overlaps(block) for block in limits.special):
        raise UnusableList(f"{name} has the range {network}, which is not of public addresses")


def _addresses(networks: Iterable[Network]) -> int:
    return sum(network.num_addresses for network in networks)


def _shared(known: Sequence[Network], found: Sequence[Network]) -> int:
    """How many addresses are in both; no two networks of one side may overlap."""
    # Of two networks that overlap, one contains the other.
    return sum(min(a.num_addresses, b.num_addresses) for a in known for b in found if a.overlaps(b))
