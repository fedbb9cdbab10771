"""`attest`: a device_credential for the key of a server."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from sigil.device.attestation import Attester
from sigil.device.commands.context import (
    command_context,
    home_option,
    json_option,
    selected_registration,
    server_option,
)
from sigil.device.credential.client import Credentials
from sigil.device.credential.files import CredentialFile, stored_attester, test_phone
from sigil.device.credential.steps import checked_credential
from sigil.device.enrolment.errors import AttesterNeeded
from sigil.device.http.connection import ServerConnection
from sigil.device.keyring import Keyring
from sigil.protocol.encoding.text import format_time

_Command = TypeVar("_Command", bound=Callable[..., Any])
_PHONES = ("android", "apple", "yubikey")


def test_root_option(kind: str) -> Callable[[_Command], _Command]:
    """`--test-root DIR` with `kind`, the option that names the phone to play."""
    root = click.option(
        "--test-root",
        type=click.Path(exists=True, file_okay=False, path_type=Path),
        help="For tests: attest the key under the test root in this directory (python -m deploy.attestation root DIR).",
    )
    phone = click.option(kind, "phone", type=click.Choice(_PHONES), help="With --test-root: the phone to play.")
    return lambda command: root(phone(command))


def attester_of(test_root: Path | None, phone: str | None) -> tuple[Attester | None, dict[str, str] | None]:
    """The attester of the options, and what is stored to find it again; both None without the options."""
    if (test_root is None) != (phone is None):
        raise click.UsageError("--test-root DIR and the phone to play (--as, --attest-as) go together.")
    if test_root is None or phone is None:
        return None, None
    attested_by = {"test_root": str(test_root.resolve()), "phone": phone}
    return test_phone(attested_by), attested_by


@click.command()
@test_root_option("--as")
@server_option
@json_option
@home_option
def attest(*, test_root: Path | None, phone: str | None, server: str | None, as_json: bool, keyring: Keyring) -> None:
    """Obtain a device_credential for this device's key, or renew it.

    A server with attestation needs it for approvals. This device has no attested hardware: it plays a phone for tests,
    under a test root that the server accepts (SIGIL_ATTESTATION_ROOTS).
    """
    registration = selected_registration(keyring, server)
    pinned, device = registration.server, registration.device
    attester, attested_by = attester_of(test_root, phone)
    if attester is None:
        record = keyring.credential(pinned.base_url)
        attested_by = record.attested_by if record is not None else None
        attester = stored_attester(attested_by)
    if attester is None:
        raise AttesterNeeded(
            "This device has no attested hardware. For tests, pass --test-root DIR with --as android, apple or yubikey."
        )
    with ServerConnection(pinned.base_url, pinned.tls) as connection:
        store = CredentialFile(keyring, registration, attested_by)
        credentials = Credentials(device, pinned, connection, store, clock=command_context().clock)
        payload = checked_credential(credentials.obtain(attester), device.public, pinned).payload
    expires_at = format_time(payload.expires_at)
    if as_json:
        members = {"kind": payload.kind, "level": payload.level, "binding": payload.binding, "expires_at": expires_at}
        click.echo(json.dumps({"fingerprint": device.fingerprint, **members}))
        return
    click.echo(f"Attested     {payload.kind}, {payload.level}, {payload.binding}, until {expires_at}")
