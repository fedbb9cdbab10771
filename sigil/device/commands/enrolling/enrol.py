"""`enrol`: a key for an account, by the link or the token that the service shows."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import click

from sigil.device.commands.context import (
    SERVER_URL,
    CommandContext,
    command_context,
    home_option,
    json_option,
    trust_of,
    trust_options,
)
from sigil.device.commands.enrol import SERVER_ID, check_identity, confirm_server
from sigil.device.commands.enrolling.attest import attester_of, test_root_option
from sigil.device.commands.enrolling.output import JsonLines, Output, Text
from sigil.device.commands.enrolling.session import Choices, EnrolmentSession
from sigil.device.enrolment.pending import PendingEnrolment
from sigil.device.enrolment.target import Target, parse_target
from sigil.device.errors import NotConfirmed
from sigil.device.http.connection import ServerConnection
from sigil.device.http.tls import TlsTrust
from sigil.device.keyring import Keyring, Registration
from sigil.device.server_pin import ServerPin, verify_info
from sigil.protocol.keys import SUITES, Suite


@click.command()
@click.argument("target", metavar="URI|TOKEN", required=False)
@click.option("--server", type=SERVER_URL, help="With a token: the server's address, https://host[:port].")
@click.option("--pin", type=SERVER_ID, help="With a token: the server's server_id; any other is refused.")
@click.option("--suite", type=click.Choice(SUITES), default="ES256", show_default=True)
@trust_options("the server")
@click.option("--yes", is_flag=True, help="Enrol without a prompt. It never accepts a server that nothing names.")
@click.option("--force", is_flag=True, help="Discard the key, and an unfinished enrolment, that are there already.")
@click.option("--keep", is_flag=True, help="Keep the key of an enrolment whose result the server no longer stores.")
@test_root_option("--attest-as")
@json_option
@home_option
def enrol(
    *,
    target: str | None,
    server: str | None,
    pin: str | None,
    suite: str,
    ca: Path | None,
    tls_pin: str | None,
    yes: bool,
    force: bool,
    keep: bool,
    test_root: Path | None,
    phone: str | None,
    as_json: bool,
    keyring: Keyring,
) -> None:
    """Make a key for an account and enrol it, by the link or the token that the service shows.

    Shows the server and the account, prompts, and shows a code to enter on the service's page. Repeat the command to go
    on after an interruption. Quote a link: it contains '&'. Without URI|TOKEN it prompts for it.
    """
    context = command_context()
    prompts = context.interactive() and not as_json
    if not prompts and not yes:
        raise click.UsageError(
            "--json never prompts: pass --yes." if as_json else "There is no terminal to prompt on. Pass --yes."
        )
    attester, attested_by = attester_of(test_root, phone)
    choices = Choices(
        suite=cast(Suite, suite),
        yes=yes,
        force=force,
        keep=keep,
        prompts=prompts,
        attester=attester,
        attested_by=attested_by,
    )
    if target is None and not prompts:
        raise click.UsageError("There is no terminal to prompt on. Pass the link or the token.")
    aim = parse_target(click.prompt("Link or token", err=True) if target is None else target, server, pin)
    output: Output = JsonLines() if as_json else Text()
    with keyring.enrolling():
        _Run(keyring, context, output, choices).enrol(aim, trust_of(aim.base_url, ca, tls_pin))


class _Run:
    def __init__(self, keyring: Keyring, context: CommandContext, output: Output, choices: Choices) -> None:
        self._keyring, self._output, self._choices = keyring, output, choices
        self._session = EnrolmentSession(keyring, context, output, choices)

    def enrol(self, target: Target, trust: TlsTrust) -> None:
        known, pending = self._keyring.find(target.base_url), self._keyring.pending_enrolment(target.base_url)
        if pending is None and known is not None and known.enrolment == target.token_sha256:
            click.echo("This device is enrolled by this link already.", err=True)
            self._output.enrolled(known, "")
            return
        if target.server_id is not None:
            for pinned in (known, pending):
                if pinned is not None:
                    check_identity(pinned.server, target.server_id)
        with ServerConnection(target.base_url, _trust(trust, known, pending)) as connection:
            if pending is not None and pending.token_sha256 != target.token_sha256:
                self._session.finish_earlier(pending, connection)
                pending = None
            if pending is None:
                pending = self._session.start(target, self._pinned(target, connection, known, trust))
            self._session.run(target, pending, connection)

    def _pinned(
        self, target: Target, connection: ServerConnection, known: Registration | None, trust: TlsTrust
    ) -> ServerPin:
        """The server of /info: the expected one, or one that the person recognises. Nothing was sent before."""
        found = verify_info(connection.info(), target.base_url, pin=target.server_id, tls=_trust(trust, known, None))
        if known is not None:
            check_identity(known.server, found.server_id)
        elif target.server_id is None:
            if not self._choices.prompts:
                raise NotConfirmed(
                    "A typed token does not prove which server it is. Pass the server's server_id with --pin, or use "
                    "the link."
                )
            confirm_server(found, yes=False)
        return found


def _trust(given: TlsTrust, known: Registration | None, pending: PendingEnrolment | None) -> TlsTrust:
    """That of the options, or what an earlier run or key for this server has."""
    if given != TlsTrust():
        return given
    earlier = pending or known
    return earlier.server.tls if earlier is not None else given
