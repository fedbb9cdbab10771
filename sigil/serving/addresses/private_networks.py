"""Destinations for plain http: addresses that this host reaches without the internet.

Not `ipaddress.is_private`: it includes documentation and benchmark networks, which have no owner, and link-local
addresses, at which clouds serve credentials without authentication.
"""

from __future__ import annotations

import ipaddress

_PRIVATE = tuple(
    ipaddress.ip_network(network)
    for network in ("127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "::1/128", "fc00::/7")
)


def is_private(address: str) -> bool:
    """True for an IP address of loopback or a private network. ValueError when it is not an IP address."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped:
        # A socket to such an address uses IPv4.
        ip = ip.ipv4_mapped
    return any(ip in network for network in _PRIVATE)
