"""`python -m deploy.providers --directory D`: serves until SIGTERM, after one line of JSON that says where."""

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
from deploy.providers.credentials import Credentials, OpenToOthers
from deploy.providers.listener import Listener, bound
from deploy.providers.stand_ins import Ports, StandIns, loopback


async def serve(directory: Path, ports: Ports) -> None:
    """Until SIGTERM or SIGINT."""
    loop, over = asyncio.get_running_loop(), asyncio.Event()
    loop.set_exception_handler(_told)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, over.set)
    credentials = Credentials(directory)
    stand_ins = StandIns(credentials, ports)
    control = Control(stand_ins)
    controlled = Listener(bound(ports.control), control.connection)
    await stand_ins.open()
    await controlled.become("serving")
    told = credentials.publish({**stand_ins.urls(), "control_url": loopback(controlled.port)})
    click.echo(msgspec.json.encode(told))
    await over.wait()
    controlled.close()
    stand_ins.close()


def _told(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """A client that breaks off a handshake is what half of the tests are for."""
    if not isinstance(context.get("exception"), ssl.SSLError | OSError):
        loop.default_exception_handler(context)


@click.command()
@click.option("--directory", type=click.Path(path_type=Path), required=True, help="For keys and certificates (0700).")
@click.option("--apns-port", default=0, show_default="a free one")
@click.option("--fcm-port", default=0, show_default="a free one")
@click.option("--token-port", default=0, show_default="a free one")
@click.option("--control-port", default=0, show_default="a free one")
def main(directory: Path, apns_port: int, fcm_port: int, token_port: int, control_port: int) -> None:
    """Local stand-ins of APNs and FCM, on loopback only."""
    try:
        uvloop.run(serve(directory.resolve(), Ports(apns_port, fcm_port, token_port, control_port)))
    except (OpenToOthers, OSError) as error:
        raise click.ClickException(str(error)) from error


if __name__ == "__main__":
    main()
