"""`init`, `whoami`, `servers`, `forget`: the keys of this device and the pinned servers."""

from __future__ import annotations

import json
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import cast

import click

from sigil.device.commands.context import (
    SERVER_URL,
    Matching,
    command_context,
    home_option,
    json_option,
    selected_registration,
    server_option,
    trust_of,
    trust_options,
)
from sigil.device.display import picture, server_lines
from sigil.device.errors import AlreadyRegistered, DeviceError, IdentityChanged, NotConfirmed, PinMismatch
from sigil.device.http.connection import ServerConnection
from sigil.device.keyring import Keyring, Registration
from sigil.device.server_pin import ServerPin, verify_info
from sigil.protocol.encoding.display_text import printable
from sigil.protocol.keys import SUITES, Suite

_CONTINUE = "This device already has a key for this server; continue with 'sigil device register'."
SERVER_ID = Matching("server_id", "[0-9a-f]{64}", "the full server_id: 64 lower-case hex characters")


@click.command()
@click.option("--server", required=True, type=SERVER_URL, help="The server's address, https://host[:port].")
@click.option("--pin", type=SERVER_ID, help="The expected server_id; any other is refused.")
@click.option("--suite", type=click.Choice(SUITES), default="ES256", show_default=True)
@click.option("--yes", is_flag=True, help="Accept the server's identity without --pin and without a prompt.")
@trust_options("the server")
@click.option("--force", is_flag=True, help="Replace the key that this device has for the server.")
@home_option
def init(
    *,
    server: str,
    pin: str | None,
    suite: str,
    yes: bool,
    ca: Path | None,
    tls_pin: str | None,
    force: bool,
    keyring: Keyring,
) -> None:
    """Make a key for a server and pin the server's identity."""
    trust = trust_of(server, ca, tls_pin)
    try:
        with ServerConnection(server, trust) as connection:
            found = verify_info(connection.info(), server, pin=pin, tls=trust)
    except PinMismatch as error:
        raise PinMismatch(
            f"{error.message} Check --pin and the address. If both are right, do not continue."
        ) from error
    registration = _existing(keyring, found, cast(Suite, suite), force=force)
    if registration is not None:
        click.echo(_CONTINUE, err=True)
    else:
        if pin is None:
            confirm_server(found, yes=yes)
        registration = keyring.create(found, cast(Suite, suite), replace=force)
    _echo([*server_lines(found), *registration_lines(registration)])


@click.command()
@server_option
@json_option
@click.option("--key", "only_key", is_flag=True, help="The device_public_key alone, for `sigil ask --device`.")
@home_option
def whoami(server: str | None, as_json: bool, only_key: bool, keyring: Keyring) -> None:
    """Show what a backend needs to enrol this device."""
    registration = selected_registration(keyring, server)
    if only_key:
        click.echo(registration_members(registration)["device_public_key"])
    elif as_json:
        click.echo(json.dumps(registration_members(registration)))
    else:
        _echo([*registration_lines(registration), *server_lines(registration.server)])


@click.command()
@json_option
@home_option
def servers(as_json: bool, keyring: Keyring) -> None:
    """List the servers for which this device has keys."""
    registrations = [keyring.load(base_url) for base_url in keyring.known()]
    if as_json:
        click.echo(json.dumps([registration_members(registration) for registration in registrations]))
    for registration in registrations if not as_json else ():
        _echo(server_lines(registration.server))


@click.command()
@click.argument("url", type=SERVER_URL)
@click.option("--yes", is_flag=True, help="Delete without a prompt.")
@home_option
def forget(url: str, yes: bool, keyring: Keyring) -> None:
    """Delete the key for a server permanently."""
    if not yes and command_context().interactive():
        click.confirm(f"Delete the key for {url}? It cannot be restored.", abort=True, err=True)
    relay = None
    with suppress(DeviceError):  # A damaged key can be deleted, too.
        relay = keyring.relay(url)
    keyring.forget(url)
    click.echo(f"The key for {url} is deleted.")
    if relay is not None:
        click.echo(f"{relay.origin} still has its registration, and deletes it after 90 days without contact.")


def _existing(keyring: Keyring, found: ServerPin, suite: Suite, *, force: bool) -> Registration | None:
    """The registration that `init` would make, when this device has it already; AlreadyRegistered for a different one.

    With the same server, identity, TLS trust and suite there is nothing to do, so that `init` may be repeated.
    """
    known = keyring.find(found.base_url)
    if known is None:
        return None
    check_identity(known.server, found.server_id)
    if force:
        return None
    if known.server.tls != found.tls or known.device.suite != suite:
        raise AlreadyRegistered(
            f"{AlreadyRegistered.summary} It has another suite or other trusted certificates. --force replaces it; "
            "then enrol the new key."
        )
    return known


def check_identity(known: ServerPin, server_id: str) -> None:
    """Not even with --force: an attacker in the server's place could persuade people to use it. IdentityChanged."""
    if known.server_id != server_id:
        raise IdentityChanged(
            f"{known.base_url} HAD THE SERVER_ID {known.server_id} AND NOW HAS {server_id}. Another "
            "server is in its place, or its mnemonic was lost. Nothing was changed. Contact its operator. If the "
            f"change is intended, run 'sigil device forget {known.base_url}' and enrol again."
        )


def confirm_server(found: ServerPin, *, yes: bool) -> None:
    if yes:
        return
    if not command_context().interactive():
        raise NotConfirmed(
            "There is no terminal to confirm the server's identity on. Pass its server_id with --pin, or accept "
            f"{found.server_id} with --yes."
        )
    _echo(server_lines(found), err=True)
    if not click.confirm("Is this the server_id that you expect?", default=False, err=True):
        raise NotConfirmed


def registration_members(registration: Registration) -> dict[str, str | list[str]]:
    device, server = registration.device, registration.server
    return {
        "device_public_key": device.wire_key,
        "fingerprint": device.fingerprint,
        "pictogram": device.pictogram,
        "pictogram_speakable": device.pictogram_speakable,
        "suite": device.suite,
        "server": server.base_url,
        "server_id": server.server_id,
        "server_name": server.server_name,
        "account": registration.account,
    }


def registration_lines(registration: Registration) -> list[str]:
    device = registration.device
    return [
        *([f"Account      {registration.account}"] if registration.account else []),
        f"Device key   {device.wire_key}  ({device.suite})",
        f"Fingerprint  {device.fingerprint}",
        f"             {picture(device.fingerprint)}",
    ]


def _echo(lines: Iterable[str], *, err: bool = False) -> None:
    for line in lines:
        click.echo(printable(line), err=err)
