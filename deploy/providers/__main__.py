"""`python -m deploy.providers --directory D`: prints its addresses as one line of JSON, and serves until SIGTERM."""

from __future__ import annotations

import asyncio
import signal
import ssl
from pathlib import Path
from typing import Any

import click
import msgspec
import uvloop

from deploy.providers.control import Control
from deploy.providers.credentials import Credentials, UnsafeDirectory
from deploy.providers.http.listener import Listener, bind
from deploy.providers.stand_ins import Ports, StandIns, loopback_url


async def serve(directory: Path, ports: Ports) -> None:
    """Until SIGTERM or SIGINT."""
    loop, stopped = asyncio.get_running_loop(), asyncio.Event()
    loop.set_exception_handler(_log_exception)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    credentials = Credentials(directory)
    stand_ins = StandIns(credentials, ports)
    control = Control(stand_ins)
    control_listener = Listener(bind(ports.control), control.connection)
    await stand_ins.open()
    await control_listener.set_mode("serving")
    urls = {**stand_ins.urls(), "control_url": loopback_url(control_listener.port)}
    published = credentials.publish(urls, stand_ins.browsers(credentials.key_hash()))
    click.echo(msgspec.json.encode(published))
    await stopped.wait()
    control_listener.close()
    stand_ins.close()


def _log_exception(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Many tests abort a TLS handshake: these errors are not logged."""
    if not isinstance(context.get("exception"), ssl.SSLError | OSError):
        loop.default_exception_handler(context)


@click.command()
@click.option("--directory", type=click.Path(path_type=Path), required=True, help="For keys and certificates (0700).")
@click.option("--apns-port", "apns", default=0, show_default="a free one")
@click.option("--fcm-port", "fcm", default=0, show_default="a free one")
@click.option("--token-port", "token", default=0, show_default="a free one")
@click.option("--webpush-port", "webpush", default=0, show_default="a free one")
@click.option("--google-port", "google", default=0, show_default="a free one")
@click.option("--mcs-port", "mcs", default=0, show_default="a free one")
@click.option("--mozilla-port", "mozilla", default=0, show_default="a free one")
@click.option("--control-port", "control", default=0, show_default="a free one")
def main(directory: Path, **ports: int) -> None:
    """Local stand-ins of APNs, FCM and the push services of browsers, on loopback only."""
    try:
        uvloop.run(serve(directory.resolve(), Ports(**ports)))
    except (UnsafeDirectory, OSError) as error:
        raise click.ClickException(str(error)) from error


if __name__ == "__main__":
    main()
