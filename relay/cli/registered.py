"""What is registered: servers whose pushes are taken, and devices. These commands work on the database itself."""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

import click

from relay.cli.errors import cli_errors

if TYPE_CHECKING:
    from relay.registry.port import Registry

T = TypeVar("T")
_FINGERPRINT = re.compile(r"[0-9a-f]{64}\Z")
_DAY = 86_400


def _ask(work: Callable[[Registry], Awaitable[T]]) -> T:
    with cli_errors:
        from relay.app.wiring import open_registry
        from relay.config import load_storage

        registry = open_registry(load_storage(os.environ), "sigil-relay command")

        async def once() -> T:
            await registry.open(lambda channel, data: None)
            try:
                return await work(registry)
            finally:
                await registry.close()

        return asyncio.run(once())


def _name(text: str) -> bytes:
    if not _FINGERPRINT.match(text):
        cli_errors.die("a server_id or fingerprint is 64 lower-case hex characters")
    return bytes.fromhex(text)


def _day(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds)) if seconds else "-"


@click.group()
def servers() -> None:
    """Servers whose pushes are taken."""


@servers.command("list")
def list_servers() -> None:
    """All that are trusted; one without a key has not been in contact yet."""
    for server in _ask(lambda registry: registry.servers()):
        key = "known" if server.public_key else "not seen yet"
        click.echo(f"{server.server_id.hex()}  since {_day(server.trusted_at)}  key {key}  {server.name}")


@servers.command()
@click.argument("server_id")
@click.option("--name", default="", help="For people; the server tells its own when it registers.")
def trust(server_id: str, name: str) -> None:
    """Take pushes of this server from its first signed request on, whatever the settings list."""
    import msgspec

    from relay.registry.model import Server

    wanted = Server(_name(server_id), b"", name, int(time.time()))

    async def add(registry: Registry) -> None:
        known = await registry.server(wanted.server_id)
        if known is None:
            await registry.trust(wanted)
        elif known.listed:
            # So far the settings alone said so: now an operator does, and it stays when it is taken out of them.
            await registry.trust(msgspec.structs.replace(known, name=name or known.name, listed=False))

    _ask(add)
    click.echo("trusted")


@servers.command()
@click.argument("server_id")
def remove(server_id: str) -> None:
    """Refuse this server; running workers do so within ten seconds."""
    name = _name(server_id)
    if not _ask(lambda registry: registry.distrust(name)):
        cli_errors.die("no such server")
    click.echo("removed; take it out of RELAY_TRUSTED_SERVERS too, if it is there")


@click.group()
def devices() -> None:
    """Registered devices."""


@devices.command()
def count() -> None:
    """How many, by platform."""
    for platform, number in sorted(_ask(lambda registry: registry.count_devices()).items()):
        click.echo(f"{platform:<12} {number}")


@devices.command()
@click.argument("fingerprint")
def show(fingerprint: str) -> None:
    """One registration, without its token."""
    name = _name(fingerprint)
    device = _ask(lambda registry: registry.device(name))
    if device is None:
        cli_errors.die("no such device")
    click.echo(f"platform    {device.platform}")
    click.echo(f"registered  {_day(device.registered_at)}")
    click.echo(f"last seen   {_day(device.seen_at)}")
    click.echo(f"failures    {device.failures}")
    click.echo(f"evicted     {device.evicted or 'no'}")


@devices.command("remove")
@click.argument("fingerprint")
def remove_device(fingerprint: str) -> None:
    """Forget a registration and what waits for it."""
    name = _name(fingerprint)
    if not _ask(lambda registry: registry.unregister(name)):
        cli_errors.die("no such device")
    click.echo("removed")


@devices.command()
@click.option("--days", default=90, show_default=True, type=click.IntRange(1), help="Silent for so long.")
def prune(days: int) -> None:
    """Evict tokens of devices that were silent for long; the relay does it each day by itself."""

    async def all_batches(registry: Registry) -> int:
        now, total = int(time.time()), 0
        while any(pruned := await registry.prune(now - days * _DAY, now - days * _DAY, now)):
            total += sum(pruned)
        return total

    click.echo(f"{_ask(all_batches)} evicted or forgotten")
