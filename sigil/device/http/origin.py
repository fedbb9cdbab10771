"""The addresses that a device accepts; their grammar is `sigil.protocol.origin`."""

from __future__ import annotations

from sigil.device.errors import AddressRefused
from sigil.protocol.origin import NotAnOrigin, Origin, origin_of_url, parse_origin, server_origin


def origin(url: str) -> str:
    """The canonical origin of a URL, which may have a path; AddressRefused."""
    try:
        return origin_of_url(url)
    except NotAnOrigin as error:
        raise _refused(error) from error


def base_url(url: str) -> str:
    """The origin that a device may pin: https, or http to this machine; no path. AddressRefused otherwise."""
    try:
        return server_origin(url)
    except NotAnOrigin as error:
        raise _refused(error) from error


def relay_origin(url: str, *, any_http: bool = False) -> str:
    """The origin of a relay: https, or http to this machine or a private address; no path. AddressRefused otherwise.

    The server signs pushes, and registrations name their origin, so an attacker on the network path can forge neither,
    but can read challenges and hold them back. `any_http` accepts that on any network.
    """
    try:
        parsed: Origin = parse_origin(url)
    except NotAnOrigin as error:
        raise _refused(error) from error
    if parsed.scheme == "http" and not any_http and not parsed.is_private:
        raise AddressRefused(
            "Plain http to a relay is allowed for loopback and private addresses; --insecure-relay allows it anywhere."
        )
    return str(parsed)


def _refused(error: NotAnOrigin) -> AddressRefused:
    return AddressRefused(f"The address {error}.")
