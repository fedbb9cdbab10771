"""Where a listener binds: one grammar for every service and command, and the address under which this host reaches it.

It imports little, for the health check.
"""

from __future__ import annotations

import ipaddress
import re
import socket

_SHORT_IPV4 = re.compile(r"(?:0|[1-9]\d*)(?:\.(?:0|[1-9]\d*)){0,3}\Z", re.ASCII)
# Underscores too: Compose gives such names to containers. The last label is no number: that is a mistyped address.
_LABEL = "(?!-)[a-z0-9_-]{1,63}(?<!-)"
_NAME = re.compile(rf"(?:{_LABEL}\.)*(?!(?:[0-9]+|0x[0-9a-f]*)\.?\Z){_LABEL}\.?\Z", re.ASCII)
_EXPECTED = (
    "must be an address of this host such as 127.0.0.1 or ::1, a name of it, 0.0.0.0 for all IPv4 addresses, or * for "
    "all addresses; the port has a setting of its own"
)


def listen_host(text: str) -> str:
    """The address or name to bind, in the form that `socket` takes; ValueError.

    An IPv6 address may be in brackets. IPv4 may be short, as in `0` and `127.1`: getaddrinfo takes it too. `*` gives
    `::`, which accepts IPv4 too, or 0.0.0.0 on a host without IPv6.
    """
    if text == "*":
        return "::" if _has_ipv6() else "0.0.0.0"
    bare = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    if ":" in bare:
        try:
            return str(ipaddress.IPv6Address(bare))
        except ValueError:
            raise ValueError(_EXPECTED) from None
    if bare != text:
        raise ValueError(_EXPECTED)
    if _SHORT_IPV4.match(text):
        try:
            return socket.inet_ntoa(socket.inet_aton(text))
        except OSError:
            raise ValueError(_EXPECTED) from None
    if len(text) > 253 or not _NAME.match(text.lower()):
        raise ValueError(_EXPECTED)
    return text.lower()


def reachable(host: str) -> str:
    """The address under which this host reaches a listener that binds `host`, a value of `listen_host`."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if not address.is_unspecified:
        return host
    return "::1" if address.version == 6 and _has_ipv6() else "127.0.0.1"


def _has_ipv6() -> bool:
    """Whether this host has an IPv6 loopback address: a kernel may have IPv6 without any address."""
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True
