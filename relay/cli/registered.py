"""Commands for registered servers and devices. They work on the database directly."""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

import click

from relay.cli.errors import cli_errors
from sigil.protocol.encoding.display_text import printable

if TYPE_CHECKING:
    from relay.registry.model import History, PastPush, Server
    from relay.registry.port import Registry

T = TypeVar("T")
_ID = re.compile(r"[0-9a-f]{64}\Z")


def _with_registry(work: Callable[[Registry], Awaitable[T]]) -> T:
    with cli_errors:
        from relay.app.wiring import open_registry
        from relay.config import load_storage

        registry = open_registry(load_storage(os.environ), "sigil-relay command", cli_errors.note)

        async def run() -> T:
            await registry.open(lambda channel, data: None, migrate=False)
            try:
                return await work(registry)
            finally:
                await registry.close()

        return asyncio.run(run())


def _parse_id(text: str) -> bytes:
    if not _ID.match(text):
        cli_errors.die("a server_id or fingerprint must be 64 lower-case hex characters")
    return bytes.fromhex(text)


def _format_time(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds)) if seconds else "-"


@click.group()
def servers() -> None:
    """Servers whose pushes the relay accepts."""


@servers.command("list")
def list_servers() -> None:
    """List trusted servers. A server without a key has not yet sent a request."""
    found = _with_registry(lambda registry: registry.servers())
    if not found:
        click.echo("no servers", err=True)
    for server in found:
        key = "known" if server.public_key else "not seen yet"
        click.echo(
            f"{server.server_id.hex()}  since {_format_time(server.trusted_at)}  key {key}  {printable(server.name)}"
        )


@servers.command()
@click.argument("server_id")
@click.option("--name", default="", help="A name for people; the server sends its own when it registers.")
def trust(server_id: str, name: str) -> None:
    """Accept pushes of this server from its first signed request on, whether the settings list it or not."""
    import msgspec

    from relay.registry.model import Server

    trusted = Server(_parse_id(server_id), b"", name, int(time.time()))

    async def add(registry: Registry) -> None:
        known = await registry.server(trusted.server_id)
        if known is None:
            await registry.trust(trusted)
        elif known.listed:
            # Trusted by the settings alone so far. An operator's trust remains when the settings no longer list it.
            await registry.trust(msgspec.structs.replace(known, name=name or known.name, listed=False))

    _with_registry(add)
    click.echo("trusted")


@servers.command()
@click.argument("server_id")
def remove(server_id: str) -> None:
    """Reject this server; running workers do so within ten seconds."""
    name = _parse_id(server_id)
    with cli_errors:
        from relay.config import lists_server

        # The server would register again, and be trusted again, with its next request.
        if lists_server(os.environ, name):
            cli_errors.die(
                "RELAY_TRUSTED_SERVERS lists this server: remove it there, send the relay SIGHUP (or restart it), then "
                "run this command again"
            )
    if not _with_registry(lambda registry: registry.distrust(name)):
        cli_errors.die("no such server")
    click.echo("removed; if RELAY_TRUSTED_SERVERS of a running relay still lists it, remove it there too")


@click.group()
def devices() -> None:
    """Registered devices."""


@devices.command()
def count() -> None:
    """Count devices by platform."""
    found = _with_registry(lambda registry: registry.count_devices())
    if not found:
        click.echo("no devices", err=True)
    for platform, number in sorted(found.items()):
        click.echo(f"{platform:<12} {number}")


@devices.command()
@click.argument("fingerprint")
def show(fingerprint: str) -> None:
    """Show one registration, without its token, and the newest pushes of each server to it.

    FINGERPRINT may be the first 6 characters or more, such as the log has.
    """
    from sigil.protocol.encoding.fingerprints import parse_beginning

    with cli_errors:
        try:
            beginning = parse_beginning(fingerprint)
        except ValueError as error:
            raise click.UsageError(str(error)) from None

    async def read(registry: Registry) -> tuple[bytes, list[tuple[Server, History]]]:
        from relay.registry.rules import fingerprints_beginning

        first, last = fingerprints_beginning(beginning)
        name = await _only_device(registry, first, last)
        servers = await registry.servers()
        histories = [(one, await registry.history(one.server_id, name, name, time.time())) for one in servers]
        return name, [(server, found) for server, found in histories if found is not None]

    name, histories = _with_registry(read)
    device = _with_registry(lambda registry: registry.device(name))
    if device is None and not any(found.pushes for _, found in histories):
        cli_errors.die("no such device")
    click.echo(f"fingerprint {name.hex()}")
    if device is None:
        click.echo("registered  no")
    else:
        since = [found.evicted_at for _, found in histories if found.evicted_at]
        dead = f"{device.evicted}, since {_format_time(since[0])}" if since else device.evicted
        click.echo(f"platform    {device.platform}")
        click.echo(f"registered  {_format_time(device.registered_at)}")
        click.echo(f"last seen   {_format_time(device.seen_at)}")
        click.echo(f"failures    {device.failures}")
        click.echo(f"evicted     {dead or 'no'}")
    for server, found in histories:
        if found.pushes:
            click.echo(f"pushes of   {server.server_id.hex()}  {printable(server.name)}")
        for push in found.pushes:
            click.echo(f"  {_push_line(push)}")


async def _only_device(registry: Registry, first: bytes, last: bytes) -> bytes:
    """The whole fingerprint, of a registered device if only its beginning is given."""
    if first == last:
        return first
    after = (int.from_bytes(first) - 1).to_bytes(32) if any(first) else first
    found = [device.fingerprint for device in await registry.devices(after, 2) if device.fingerprint <= last]
    if len(found) > 1:
        cli_errors.die("several devices have fingerprints that begin so: give more characters")
    if not found:
        cli_errors.die("no registered device has a fingerprint that begins so; give all 64 characters")
    return found[0]


def _push_line(push: PastPush) -> str:
    attempts = (
        "" if push.platform == "websocket" else f", {push.attempts} {'attempt' if push.attempts == 1 else 'attempts'}"
    )
    ended = f" at {_format_time(int(push.ended_at))}" if push.ended_at else ""
    error = f" ({printable(push.error)})" if push.error else ""
    again = f", next attempt {_format_time(int(push.due))}" if push.due else ""
    head = f"{_format_time(int(push.created_at))}  {push.push_key}  {push.platform}"
    return f"{head}  {push.status}{error}{ended}{attempts}{again}"


@devices.command("remove")
@click.argument("fingerprint")
def remove_device(fingerprint: str) -> None:
    """Delete a registration and fail its queued pushes."""
    name = _parse_id(fingerprint)
    if not _with_registry(lambda registry: registry.unregister(name)):
        cli_errors.die("no such device")
    click.echo("removed")


@devices.command()
@click.option("--days", default=90, show_default=True, type=click.IntRange(1, 366), help="Days without contact.")
def prune(days: int) -> None:
    """Evict tokens of devices without contact for so many days on which the relay was up.

    The relay also does this by itself each day, for 90 days, unless a fifth of the devices would be evicted at once.
    """

    async def all_batches(registry: Registry) -> int | None:
        now, total = int(time.time()), 0
        before = await registry.silent_before(days)
        if before is None:
            return None
        while any(pruned := await registry.prune(before, before, now)):
            total += sum(pruned)
        return total

    evicted = _with_registry(all_batches)
    if evicted is None:
        click.echo(f"the relay was up for less than {days} days: give a smaller --days", err=True)
    click.echo(f"{evicted or 0} evicted or forgotten")
