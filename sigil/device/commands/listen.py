"""`listen`: pushes as they come, shown and answered."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections.abc import Iterator
from typing import Any

import click

from sigil.device.async_client import AsyncDeviceClient
from sigil.device.commands.answer_queue import AnswerQueue, Auto
from sigil.device.commands.context import CommandContext, chosen, home_option, json_option, server_option, surroundings
from sigil.device.commands.output import Ended, ListenEvent, show, tell_people, tell_scripts
from sigil.device.commands.relay_choice import RelayAddress, address_of, relay_options
from sigil.device.commands.terminal import Terminal, say
from sigil.device.errors import DeviceError
from sigil.device.http.async_connection import AsyncServerConnection
from sigil.device.keyring import Keyring, Registration
from sigil.device.relay import Listener, ListenerTiming


@click.command()
@click.option("--auto-approve", is_flag=True, help="Approve whatever passes the checks: for development and tests.")
@click.option("--auto-reject", is_flag=True, help="Reject whatever passes the checks.")
@click.option("--once", is_flag=True, help="End after one answer.")
@server_option
@relay_options
@json_option
@home_option
def listen(
    *,
    auto_approve: bool,
    auto_reject: bool,
    once: bool,
    server: str | None,
    as_json: bool,
    keyring: Keyring,
    **relay: Any,
) -> None:
    """Stay connected to the relay, and show and answer challenges as they are pushed.

    Asks on the terminal, numbers included; --json tells scripts of everything, one object a line, and asks nothing.
    """
    around = surroundings()
    if auto_approve and auto_reject:
        raise click.UsageError("Give one of --auto-approve and --auto-reject.")
    auto: Auto | None = "approved" if auto_approve else "rejected" if auto_reject else None
    if auto is None and once and as_json:
        raise click.UsageError("With --json nothing is answered unless --auto-approve or --auto-reject is given.")
    terminal = None
    if auto is None and not as_json:
        if not around.interactive():
            raise click.UsageError(
                "There is no terminal to ask on: give --auto-approve, --auto-reject or --json, or run it on one."
            )
        terminal = Terminal(sys.stdin.fileno(), say)
    registration = chosen(keyring, server)
    address = address_of(keyring, registration, **relay)
    running = _Running(around, keyring, registration, address)
    asyncio.run(running.run(auto=auto, terminal=terminal, once=once, as_json=as_json))


class _Running:
    def __init__(
        self, around: CommandContext, keyring: Keyring, registration: Registration, address: RelayAddress
    ) -> None:
        self._around, self._keyring, self._registration, self._address = around, keyring, registration, address
        self._pace = ListenerTiming(clock=around.clock)

    async def run(self, *, auto: Auto | None, terminal: Terminal | None, once: bool, as_json: bool) -> None:
        server, clock = self._registration.server, self._around.clock

        def tell(told: ListenEvent) -> None:
            if as_json:
                tell_scripts(told, clock())
            else:
                tell_people(told, terminal)

        async with self._address.client() as relay, AsyncServerConnection(server.base_url, server.tls) as connection:
            client = AsyncDeviceClient(
                self._registration.device, server, connection, seconds=self._seconds, clock=clock
            )
            desk = AnswerQueue(
                client,
                tell,
                (lambda shown: None) if as_json else (lambda shown: show(shown, clock())),
                auto=auto,
                asks=terminal,
                once=once,
                pace=self._pace,
            )
            listener = Listener(
                self._registration.device,
                relay,
                server,
                desk.on_event,
                inbox=client.inbox,
                registers_again=self._registered(),
                pace=self._pace,
            )
            desk.on_failure = listener.ask_again
            try:
                with _signals(listener):
                    await _until_either_ends(listener, desk)
            except DeviceError as error:
                if as_json:
                    tell(Ended(error))
                raise

    async def _seconds(self) -> int:
        # Waits for a lock that other processes hold, and up to a second.
        seconds = self._keyring.seconds(self._registration.server.base_url, self._around.clock, self._around.sleep)
        return await asyncio.to_thread(seconds)

    def _registered(self) -> bool:
        record = self._keyring.relay(self._registration.server.base_url)
        return record is not None and record.origin == self._address.origin and record.platform == "websocket"


async def _until_either_ends(listener: Listener, desk: AnswerQueue) -> None:
    listening, answering = asyncio.create_task(listener.run()), asyncio.create_task(desk.run())
    try:
        await asyncio.wait([listening, answering], return_when=asyncio.FIRST_COMPLETED)
        listener.stop()
        await asyncio.wait([listening])
    finally:
        for task in (listening, answering):
            task.cancel()
        await asyncio.gather(listening, answering, return_exceptions=True)
    for task in (listening, answering):
        with contextlib.suppress(asyncio.CancelledError, EOFError):
            task.result()


@contextlib.contextmanager
def _signals(listener: Listener) -> Iterator[None]:
    """Ctrl-C and SIGTERM are how it is meant to end: what was told is acknowledged first, and the exit code is 0."""
    loop = asyncio.get_running_loop()
    numbers = (signal.SIGINT, signal.SIGTERM)
    for number in numbers:
        loop.add_signal_handler(number, listener.stop)
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)
