"""`sigil webhook …`: for developers of webhook receivers, and for operators of a server that sends webhooks."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import click

from sigil.cli.errors import cli_errors
from sigil.console.json_lines import json_line

if TYPE_CHECKING:
    from sigil.config.settings import WebhookSettings
    from sigil.webhooks.failures import DeadLetters


@click.group()
def webhook() -> None:
    """Receive, test and replay webhooks."""


@webhook.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on; the forms of SIGIL_HOST.")
@click.option("--port", default=9000, show_default=True, type=click.IntRange(0, 65535))
@click.option(
    "--status", default=200, show_default=True, type=click.IntRange(200, 599), help="The status to respond with."
)
@click.option("--count", default=None, type=click.IntRange(1), help="Stop after so many requests.")
def listen(host: str, port: int, status: int, count: int | None) -> None:
    """Print the requests that arrive, and whether WEBHOOK_SECRET signed them. For development."""
    with cli_errors:
        from sigil.cli.webhook_listener import Listener
        from sigil.serving.addresses.listen_host import listen_host
        from sigil.serving.process.listeners import bound, listen_error, resolve

        settings = _settings()
        if not settings.secrets:
            cli_errors.die("set WEBHOOK_SECRET or WEBHOOK_SECRET_FILE, as for the server")
        try:
            host = listen_host(host)
            opened = bound(*resolve(host, port), shares_port=False)
            opened.listen()
        except ValueError as error:
            cli_errors.die(f"--host {error}")
        except OSError as error:
            cli_errors.die(listen_error(host, port, error, "--port"))
        with opened:
            Listener(opened, host, [secret.reveal() for secret in settings.secrets], status, click.echo).run(count)


@webhook.command("send-test")
@click.option("--url", default=None, help="The receiver; default: WEBHOOK_URL.")
def send_test(url: str | None) -> None:
    """Send a signed sample event once, as the server would. Exit code 0 when the receiver responds with 2xx."""
    with cli_errors:
        from sigil.app.services import webhook_sender
        from sigil.config.webhooks import webhook_url
        from sigil.serving.settings import Secret
        from sigil.webhooks.sample import sample

        settings = _settings()
        try:
            target = Secret(webhook_url(url)) if url else settings.url
        except ValueError as error:
            cli_errors.die(f"--url: {error}")
        if target is None or not settings.secrets:
            cli_errors.die("set WEBHOOK_SECRET, and WEBHOOK_URL or --url, as for the server")

        async def send() -> tuple[str, str]:
            sender = webhook_sender(target, settings.secrets)
            event, body = sample()
            try:
                result = await sender.post(event, body)
            finally:
                await sender.close()
            click.echo(f"{event}  {result}")
            return result.outcome, result.reason

        outcome, reason = asyncio.run(send())
        if outcome != "delivered":
            cli_errors.die(_send_error(reason, target.reveal(), "--url" if url else "WEBHOOK_URL"))


def _send_error(reason: str, url: str, setting: str) -> str:
    """The error and its remedy, with the origin of the URL only: its path may contain a token."""
    from sigil.webhooks.service import CONNECTION_REFUSED, UNKNOWN_NAME

    parts = urlsplit(url)
    if reason == CONNECTION_REFUSED:
        origin = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}/"
        return f"nothing listens at {origin}; start `sigil webhook listen`, or check {setting}"
    if reason == UNKNOWN_NAME:
        return f"the host name {parts.hostname} is not known; check {setting}"
    return "the receiver did not respond with 2xx"


@webhook.command()
@click.option("--json", "as_json", is_flag=True, help="Machine-readable: one JSON object per line.")
def failures(as_json: bool) -> None:
    """List the events that the running server has given up, oldest first."""
    with cli_errors:
        from sigil.protocol.encoding.text import format_time

        with _failures() as kept:
            found = asyncio.run(kept.all())
        for failed in found:
            if as_json:
                click.echo(json_line(failed._asdict() | {"at": format_time(failed.at)}))
            else:
                tries = f"{failed.tries} {'try' if failed.tries == 1 else 'tries'}"
                click.echo(f"{format_time(failed.at)}  {failed.event_id}  {failed.type}  {tries}: {failed.reason}")
        if not found and not as_json:
            click.echo("no event was given up")


@webhook.command()
def pending() -> None:
    """Print how many events of the running server are not delivered yet."""
    with cli_errors:
        from sigil.app.state import pending_events

        ignore_stops()
        click.echo(pending_events(_settings().state_dir))


@webhook.command()
@click.argument("event_id", required=False)
@click.option("--all", "everything", is_flag=True, help="All events that `sigil webhook failures` lists.")
def replay(event_id: str | None, everything: bool) -> None:
    """Have the running server resend an event that it has given up."""
    if (event_id is None) != everything:
        raise click.UsageError("give an EVENT_ID, or --all")
    with cli_errors:

        async def replay_events(kept: DeadLetters) -> int:
            names = [failed.event_id for failed in await kept.all()] if everything else [event_id or ""]
            return sum([await kept.replay(name) for name in names])

        with _failures() as kept:
            count = asyncio.run(replay_events(kept))
        if not count and not everything:
            cli_errors.die("no such event was given up; `sigil webhook failures` lists those that were")
        click.echo(f"{count} {'event' if count == 1 else 'events'} will be sent again")


def _settings() -> WebhookSettings:
    from sigil.config.settings import load_webhook

    return load_webhook(os.environ)


@contextmanager
def _failures() -> Iterator[DeadLetters]:
    """Of the server that runs on the state directory of the settings."""
    from sigil.app.state import open_running_store
    from sigil.webhooks.failures import DeadLetters

    ignore_stops()
    with closing(open_running_store(_settings().state_dir)) as store:
        yield DeadLetters(store)


def ignore_stops() -> None:
    """Stopped in a transaction (Ctrl-Z, output of a background job), a command would keep the store's write lock: all
    workers would hang, and the watchdog would kill them.
    """
    for stopping in (signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU):
        signal.signal(stopping, signal.SIG_IGN)
