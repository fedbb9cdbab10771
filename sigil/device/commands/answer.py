"""`pending`, `approve`, `reject`, `watch`: pending challenges and approval requests, and the answers."""

from __future__ import annotations

import json
from typing import cast

import click

from sigil.device.approval_checks import Shown
from sigil.device.client import DeviceClient, Inbox, ServerAnswer
from sigil.device.commands.context import (
    MATCH_CODE,
    command_context,
    home_option,
    json_option,
    one_line,
    open_client,
    prompt_number,
    selected_registration,
    server_option,
)
from sigil.device.commands.output import answer_text, approval_members, challenge_members
from sigil.device.commands.watcher import Watcher
from sigil.device.display import lines_of
from sigil.device.errors import MatchCodeRequired, MatchCodeWrong
from sigil.device.keyring import Keyring
from sigil.protocol.encoding.display_text import printable
from sigil.protocol.messages.base import Reason


@click.command()
@server_option
@json_option
@home_option
def pending(server: str | None, as_json: bool, keyring: Keyring) -> None:
    """List pending challenges and approval requests. Exit code 1 when one of them failed a check."""
    with open_client(keyring, selected_registration(keyring, server)) as client:
        inbox = client.inbox()
    if as_json:
        click.echo(json.dumps(_as_json(inbox)))
    else:
        _show_inbox(inbox)
    for refused in inbox.refused:
        click.echo(f"REFUSED {printable(refused.challenge_id)} {one_line(refused.error)}", err=True)
    if inbox.refused:
        click.get_current_context().exit(1)


@click.command()
@click.argument("pending_id", metavar="ID")
@click.option("--match-code", type=MATCH_CODE, help="The two digits that the service shows.")
@server_option
@home_option
def approve(pending_id: str, match_code: str | None, server: str | None, keyring: Keyring) -> None:
    """Show a pending challenge or approval request and approve it."""
    with open_client(keyring, selected_registration(keyring, server)) as client:
        shown = client.inbox().find(pending_id)
        _show(shown)
        answer = _approve(client, shown, match_code)
    click.echo(answer_text("approved", answer.status))


@click.command()
@click.argument("pending_id", metavar="ID")
@click.option("--reason", type=click.Choice(["cancelled", "unknown_trigger"]))
@server_option
@home_option
def reject(pending_id: str, reason: str | None, server: str | None, keyring: Keyring) -> None:
    """Show a pending challenge or approval request and reject it."""
    with open_client(keyring, selected_registration(keyring, server)) as client:
        shown = client.inbox().find(pending_id)
        _show(shown)
        answer = client.reject(shown, cast("Reason | None", reason))
    click.echo(answer_text("rejected", answer.status))


@click.command()
@click.option(
    "--auto-approve", is_flag=True, help="Approve everything that passes the checks, for development and tests."
)
@click.option("--interval", type=click.FloatRange(min=1), default=2.0, show_default=True, help="Seconds between polls.")
@click.option("--count", type=click.IntRange(min=1), help="Exit after this many answers.")
@click.option("--once", is_flag=True, help="Poll once.")
@server_option
@home_option
def watch(
    *, auto_approve: bool, interval: float, count: int | None, once: bool, server: str | None, keyring: Keyring
) -> None:
    """Poll for pending challenges and approval requests, and show and answer each one."""
    context = command_context()
    if not auto_approve and not context.interactive():
        raise click.UsageError("There is no terminal to prompt on. Pass --auto-approve, or run it on a terminal.")
    with open_client(keyring, selected_registration(keyring, server)) as client:
        watcher = Watcher(client, context, auto_approve=auto_approve, count=count)
        if once:
            watcher.poll()
        else:
            click.echo(f"Watching {client.server.base_url}. Press Ctrl-C to stop.", err=True)
            watcher.run(interval)


def _approve(client: DeviceClient, shown: Shown, given: str | None) -> ServerAnswer:
    while True:
        try:
            return client.approve(shown, _match_code(shown, given))
        except MatchCodeWrong as error:
            if given is not None or not error.tries_left:
                raise
            click.echo(error.message, err=True)


def _match_code(shown: Shown, given: str | None) -> str | None:
    if given is not None or not shown.number_matching:
        return given
    if not command_context().interactive():
        raise MatchCodeRequired
    return prompt_number(shown, command_context())


def _show(shown: Shown) -> None:
    for line in lines_of(shown, command_context().clock()):
        click.echo(line)


def _show_inbox(inbox: Inbox) -> None:
    for shown in inbox.shown:
        _show(shown)
        click.echo()
    if not inbox.shown:
        click.echo("Nothing is pending.")


def _as_json(inbox: Inbox) -> dict[str, object]:
    now = command_context().clock()
    return {
        "challenges": [challenge_members(shown, now) for shown in inbox.challenges],
        "refused": [
            {"challenge_id": item.challenge_id, "code": item.error.code, "message": item.error.message}
            for item in inbox.refused
        ],
        "mpa": [approval_members(shown, now) for shown in inbox.approvals],
    }
