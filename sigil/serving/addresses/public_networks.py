"""Addresses of the public internet, for a client whose destinations strangers may influence (by DNS, for example).

Not `ipaddress.is_global`: it differs between versions of Python, and counts networks as global that lead into private
ones. This is IANA's registry of special-purpose addresses, read for one question: can it be a public service?
"""

from __future__ import annotations

import ipaddress

_IPV4_OTHERS = tuple(
    ipaddress.IPv4Network(network)
    for network in (
        "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",
        "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24",
        "224.0.0.0/3",
    )
)  # fmt: skip
_IPV6_UNICAST = ipaddress.IPv6Network("2000::/3")
# Special purposes (Teredo among them), documentation, 6to4.
_IPV6_OTHERS = tuple(
    ipaddress.IPv6Network(network) for network in ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")
)
# NAT64 (RFC 6052): the last four bytes are an IPv4 address.
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


def is_public(address: str) -> bool:
    """ValueError when it is not an IP address. False for one with a zone."""
    ip = ipaddress.ip_address(address)
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.scope_id is not None:
            return False
        if ip in _NAT64:
            ip = ipaddress.IPv4Address(int(ip) & 0xFFFF_FFFF)
        else:
            return ip in _IPV6_UNICAST and not any(ip in network for network in _IPV6_OTHERS)
    return not any(ip in network for network in _IPV4_OTHERS)
