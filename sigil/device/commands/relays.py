"""`register` and `unregister`: the registration of this device at the relay."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, cast

import click

from sigil.device.commands.context import home_option, json_option, selected_registration, server_option
from sigil.device.commands.relay_choice import RelayAddress, address_of, relay_options
from sigil.device.display import picture
from sigil.device.keyring import Keyring, Registration, RelayRecord
from sigil.device.relay.client import RelayClient
from sigil.protocol.encoding.display_text import printable
from sigil.protocol.encoding.plain_text import NotPlainText, text_of
from sigil.protocol.messages.relay import Platform

T = TypeVar("T")
MAX_TOKEN = 4096


@click.command()
@click.option(
    "--platform",
    type=click.Choice(["websocket", "apns", "fcm", "webpush"]),
    default="websocket",
    show_default=True,
    help="The others are for testing an integration: the pushes go to the app or browser that has the token.",
)
@click.option(
    "--token-file",
    type=click.File("rb"),
    help="File with the push token, not for websocket. Without it, or with -, standard input.",
)
@server_option
@relay_options
@json_option
@home_option
def register(
    *, platform: str, token_file: Any, server: str | None, as_json: bool, keyring: Keyring, **relay: Any
) -> None:
    """Register this device at the server's relay, which then sends it pushes."""
    registration = selected_registration(keyring, server)
    token = _token(platform, token_file)
    address = address_of(keyring, registration, **relay, from_server=True)
    device = registration.device
    response = _request(address, lambda client: client.register(device, cast(Platform, platform), token))
    keyring.remember_relay(
        registration.server.base_url,
        RelayRecord(
            origin=address.origin,
            platform=cast(Platform, platform),
            fingerprint=device.fingerprint,
            tls=address.tls,
            any_http=address.any_http,
        ),
    )
    if as_json:
        _echo_json(registration, address, platform=platform, registered_at=response.registered_at)
        return
    click.echo(printable(f"Registered   {address.origin}  ({platform})"))
    _echo_device(registration)


@click.command()
@server_option
@relay_options
@json_option
@home_option
def unregister(*, server: str | None, as_json: bool, keyring: Keyring, **relay: Any) -> None:
    """Remove this device's registration at the relay. The key stays."""
    registration = selected_registration(keyring, server)
    address = address_of(keyring, registration, **relay)
    response = _request(address, lambda client: client.unregister(registration.device))
    record = keyring.relay(registration.server.base_url)
    if record is not None and record.origin == address.origin:
        keyring.forget_relay(registration.server.base_url)
    if as_json:
        _echo_json(registration, address, removed=response.removed)
        return
    result = "Unregistered" if response.removed else "Was not registered"
    click.echo(printable(f"{result}  {address.origin}"))
    _echo_device(registration)


def _request(address: RelayAddress, request: Callable[[RelayClient], Awaitable[T]]) -> T:
    async def run() -> T:
        async with address.client() as client:
            return await request(client)

    return asyncio.run(run())


def _token(platform: str, token_file: Any) -> str:
    """Never an argument: other users of this machine can read those, and shells store them."""
    if platform == "websocket":
        if token_file is not None:
            raise click.UsageError("--token-file is for apns, fcm and webpush; a WebSocket has no token.")
        return ""
    try:
        token = text_of((token_file or sys.stdin.buffer).read(4 * MAX_TOKEN))
    except NotPlainText as error:
        raise click.UsageError(f"The push token {error}.") from error
    if not 0 < len(token) <= MAX_TOKEN or not token.isprintable():
        raise click.UsageError(f"The push token must be one line of at most {MAX_TOKEN} characters.")
    return token


def _echo_device(registration: Registration) -> None:
    device = registration.device
    click.echo(f"Fingerprint  {device.fingerprint}")
    click.echo(f"             {picture(device.fingerprint)}")


def _echo_json(registration: Registration, address: RelayAddress, **more: object) -> None:
    device = registration.device
    members = {
        "relay": address.origin,
        "server": registration.server.base_url,
        "fingerprint": device.fingerprint,
        "pictogram": device.pictogram,
        "pictogram_speakable": device.pictogram_speakable,
    }
    click.echo(json.dumps(members | more))
