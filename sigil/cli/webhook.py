"""`sigil webhook …`: for developers of receivers, and for operators of a server that tells them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

import click

from sigil.cli.errors import cli_errors

if TYPE_CHECKING:
    from sigil.config.settings import WebhookSettings
    from sigil.webhooks.failures import DeadLetters


@click.group()
def webhook() -> None:
    """Receive, test and repeat webhooks."""


@webhook.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=9000, show_default=True, type=click.IntRange(0, 65535))
@click.option("--status", default=200, show_default=True, type=click.IntRange(200, 599), help="What to answer.")
@click.option("--count", default=None, type=click.IntRange(1), help="End after so many requests.")
def listen(host: str, port: int, status: int, count: int | None) -> None:
    """Print what arrives, and whether WEBHOOK_SECRET signed it. For development."""
    with cli_errors:
        from sigil.cli.webhook_listener import Listener

        settings = _settings()
        if not settings.secrets:
            cli_errors.die("set WEBHOOK_SECRET or WEBHOOK_SECRET_FILE, as for the server")
        try:
            listener = Listener((host, port), [secret.reveal() for secret in settings.secrets], status, click.echo)
        except OSError as error:
            cli_errors.die(f"cannot listen on {host} port {port}: {error.strerror}")
        with closing(listener):
            click.echo(f"listening on {listener.url}")
            listener.run(count)


@webhook.command("send-test")
@click.option("--url", default=None, help="Where to send it; default: WEBHOOK_URL.")
def send_test(url: str | None) -> None:
    """Send a signed sample as the server would, once. Exit code 0 when it was taken."""
    with cli_errors:
        from sigil.app.services import webhook_sender
        from sigil.cli.webhook_sample import sample
        from sigil.config.webhooks import webhook_url
        from sigil.serving.settings import Secret

        settings = _settings()
        try:
            target = Secret(webhook_url(url)) if url else settings.url
        except ValueError as error:
            cli_errors.die(f"--url: {error}")
        if target is None or not settings.secrets:
            cli_errors.die("set WEBHOOK_SECRET, and WEBHOOK_URL or --url, as for the server")

        async def send() -> str:
            sender = webhook_sender(target, settings.secrets)
            event, body = sample()
            try:
                answer = await sender.post(event, body)
            finally:
                await sender.close()
            click.echo(f"{event}  {answer}")
            return answer.outcome

        if asyncio.run(send()) != "delivered":
            cli_errors.die("the receiver did not take it with a 2xx")


@webhook.command()
@click.option("--json", "as_json", is_flag=True, help="Machine-readable: one object a line.")
def failures(as_json: bool) -> None:
    """List the events that the running server has given up, the oldest first."""
    with cli_errors:
        from sigil.protocol.encoding import format_time

        with _failures() as kept:
            found = asyncio.run(kept.all())
        for failed in found:
            if as_json:
                import msgspec

                click.echo(msgspec.json.encode(failed._asdict() | {"at": format_time(failed.at)}).decode())
            else:
                tries = f"{failed.tries} {'try' if failed.tries == 1 else 'tries'}"
                click.echo(f"{format_time(failed.at)}  {failed.event_id}  {failed.type}  {tries}: {failed.reason}")
        if not found and not as_json:
            click.echo("no event was given up")


@webhook.command()
@click.argument("event_id", required=False)
@click.option("--all", "everything", is_flag=True, help="All that `sigil webhook failures` lists.")
def replay(event_id: str | None, everything: bool) -> None:
    """Have the running server send an event again that it has given up."""
    if (event_id is None) != everything:
        raise click.UsageError("give an EVENT_ID, or --all")
    with cli_errors:

        async def again(kept: DeadLetters) -> int:
            names = [failed.event_id for failed in await kept.all()] if everything else [event_id or ""]
            return sum([await kept.replay(name) for name in names])

        with _failures() as kept:
            count = asyncio.run(again(kept))
        if not count and not everything:
            cli_errors.die("no such event is kept as given up; `sigil webhook failures` lists those that are")
        click.echo(f"{count} {'goes' if count == 1 else 'go'} out again")


def _settings() -> WebhookSettings:
    from sigil.config.settings import load_webhook

    return load_webhook(os.environ)


@contextmanager
def _failures() -> Iterator[DeadLetters]:
    """Those of the server that runs on the state directory of the settings."""
    from sigil.app.state import open_running_store
    from sigil.webhooks.failures import DeadLetters

    with closing(open_running_store(_settings().state_dir)) as store:
        yield DeadLetters(store)
