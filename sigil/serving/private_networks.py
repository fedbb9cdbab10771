"""Where plain http may go: addresses that packets of this host reach without the internet.

A list of our own: `ipaddress.is_private` takes in documentation and benchmark networks, which are nobody's, and
link-local addresses, where clouds serve credentials to whoever asks.
"""

from __future__ import annotations

import ipaddress

_PRIVATE = tuple(
    ipaddress.ip_network(network)
    for network in ("127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "::1/128", "fc00::/7")
)


def is_private(address: str) -> bool:
    """Whether an IP address is of loopback or a private network. ValueError: it is none."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped:
        # Such a socket speaks IPv4.
        ip = ip.ipv4_mapped
    return any(ip in network for network in _PRIVATE)
