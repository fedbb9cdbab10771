"""`listen`: receives pushes, and shows and answers them."""

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
from sigil.device.commands.context import (
    CommandContext,
    command_context,
    home_option,
    json_option,
    selected_registration,
    server_option,
)
from sigil.device.commands.output import Ended, ListenEvent, print_json, print_text, show
from sigil.device.commands.relay_choice import RelayAddress, address_of, relay_options
from sigil.device.commands.terminal import Terminal, write_prompt
from sigil.device.credential.files import async_credentials_of
from sigil.device.errors import DeviceError
from sigil.device.http.async_connection import AsyncServerConnection
from sigil.device.keyring import Keyring, Registration
from sigil.device.relay import Listener, ListenerTiming


@click.command()
@click.option(
    "--auto-approve", is_flag=True, help="Approve everything that passes the checks, for development and tests."
)
@click.option("--auto-reject", is_flag=True, help="Reject everything that passes the checks.")
@click.option("--once", is_flag=True, help="Exit after one answer.")
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

    Prompts on the terminal, also for match codes. --json prints one object per line for each event, and never prompts.
    """
    context = command_context()
    if auto_approve and auto_reject:
        raise click.UsageError("Pass either --auto-approve or --auto-reject, not both.")
    auto: Auto | None = "approved" if auto_approve else "rejected" if auto_reject else None
    if auto is None and once and as_json:
        raise click.UsageError("--once with --json needs --auto-approve or --auto-reject: --json never prompts.")
    terminal = None
    if auto is None and not as_json:
        if not context.interactive():
            raise click.UsageError(
                "There is no terminal to prompt on. Pass --auto-approve, --auto-reject or --json, or run it on a "
                "terminal."
            )
        terminal = Terminal(sys.stdin.fileno(), write_prompt)
    registration = selected_registration(keyring, server)
    address = address_of(keyring, registration, **relay)
    session = _ListenSession(context, keyring, registration, address)
    asyncio.run(session.run(auto=auto, terminal=terminal, once=once, as_json=as_json))


class _ListenSession:
    def __init__(
        self, context: CommandContext, keyring: Keyring, registration: Registration, address: RelayAddress
    ) -> None:
        self._context, self._keyring, self._registration, self._address = context, keyring, registration, address
        self._timing = ListenerTiming(clock=context.clock)

    async def run(self, *, auto: Auto | None, terminal: Terminal | None, once: bool, as_json: bool) -> None:
        server, clock = self._registration.server, self._context.clock

        def report(event: ListenEvent) -> None:
            if as_json:
                print_json(event, clock())
            else:
                print_text(event, terminal)

        async with self._address.client() as relay, AsyncServerConnection(server.base_url, server.tls) as connection:
            client = AsyncDeviceClient(
                self._registration.device,
                server,
                connection,
                timestamps=self._timestamp,
                clock=clock,
                wrong_codes=self._keyring.wrong_codes(server.base_url),
                credentials=async_credentials_of(self._keyring, self._registration, connection, clock),
            )
            queue = AnswerQueue(
                client,
                report,
                (lambda shown: None) if as_json else (lambda shown: show(shown, clock())),
                auto=auto,
                prompt=terminal,
                once=once,
                timing=self._timing,
            )
            listener = Listener(
                self._registration.device,
                relay,
                server,
                queue.on_event,
                inbox=client.inbox,
                reregister=self._is_registered(),
                timing=self._timing,
            )
            queue.on_failure = listener.report_again
            try:
                with _signals(listener):
                    await _until_either_ends(listener, queue)
            except DeviceError as error:
                if as_json:
                    report(Ended(error))
                raise

    async def _timestamp(self) -> int:
        # In a thread: it may wait up to a second, and for a lock that another process holds.
        timestamps = self._keyring.timestamps(
            self._registration.server.base_url, self._context.clock, self._context.sleep
        )
        return await asyncio.to_thread(timestamps)

    def _is_registered(self) -> bool:
        record = self._keyring.relay(self._registration.server.base_url)
        return record is not None and record.origin == self._address.origin and record.platform == "websocket"


async def _until_either_ends(listener: Listener, queue: AnswerQueue) -> None:
    listening, answering = asyncio.create_task(listener.run()), asyncio.create_task(queue.run())
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
    """Ctrl-C and SIGTERM are the normal end: reported pushes are acknowledged first, and the exit code is 0."""
    loop = asyncio.get_running_loop()
    numbers = (signal.SIGINT, signal.SIGTERM)
    for number in numbers:
        loop.add_signal_handler(number, listener.stop)
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)
