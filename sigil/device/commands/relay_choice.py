"""The choice of the relay, and of its TLS trust."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

from sigil.device.commands.context import trust_of, trust_options
from sigil.device.errors import AddressRefused
from sigil.device.http.connection import ServerConnection
from sigil.device.http.exchange import decode_response
from sigil.device.http.origin import relay_origin
from sigil.device.http.tls import TlsTrust
from sigil.device.keyring import Keyring, Registration, RelayRecord
from sigil.device.relay.client import RelayClient
from sigil.device.relay.errors import RelayUnknown
from sigil.device.server_pin import verify_info
from sigil.protocol.messages.server import Info

_Command = TypeVar("_Command", bound=Callable[..., Any])


@dataclass(frozen=True)
class RelayAddress:
    """A relay and how it is reached."""

    origin: str
    tls: TlsTrust
    any_http: bool

    def client(self) -> RelayClient:
        return RelayClient(self.origin, self.tls, any_http=self.any_http)


def relay_options(command: _Command) -> _Command:
    insecure = click.option(
        "--insecure-relay",
        is_flag=True,
        help="Allow plain http to a relay at any address. An attacker on the network path cannot forge a challenge, "
        "but can read challenges and hold them back.",
    )
    relay = click.option("--relay", metavar="URL", help="The relay's address. [default: the one in the server's /info]")
    return relay(trust_options("the relay")(insecure(command)))


def address_of(
    keyring: Keyring,
    registration: Registration,
    *,
    relay: str | None,
    ca: Path | None,
    tls_pin: str | None,
    insecure_relay: bool,
    from_server: bool = False,
) -> RelayAddress:
    """The relay of --relay; else the one where this key is registered, or with `from_server` the one in /info.

    TLS trust belongs to an origin: earlier options for that origin are kept; the server's trust is for its own origin.
    """
    record = keyring.relay(registration.server.base_url)
    recorded = record.origin if record is not None else None
    url = relay or (None if from_server else recorded) or _relay_of_server(registration) or recorded
    if url is None:
        raise RelayUnknown
    try:
        known = record if record is not None and record.origin == relay_origin(url, any_http=True) else None
        any_http = insecure_relay or (known is not None and known.any_http)
        origin = relay_origin(url, any_http=any_http)
    except AddressRefused as error:
        raise AddressRefused(f"{error.message} (relay {url})") from error
    return RelayAddress(origin, _trust(origin, trust_of(origin, ca, tls_pin), known, registration), any_http)


def _trust(origin: str, given: TlsTrust, known: RelayRecord | None, registration: Registration) -> TlsTrust:
    if given != TlsTrust():
        return given
    if known is not None:
        return known.tls
    server = registration.server
    return server.tls if origin == server.base_url else TlsTrust()


def _relay_of_server(registration: Registration) -> str | None:
    """The relay in /info, if the server is still the pinned one."""
    server = registration.server
    with ServerConnection(server.base_url, server.tls) as connection:
        info = connection.info()
    verify_info(info, server.base_url, pin=server.server_id)
    return decode_response(info, Info).relay_url
