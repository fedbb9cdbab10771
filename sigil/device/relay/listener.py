"""A device that stays connected to its relay, for as long as that makes sense."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

from sigil.device.client import Inbox
from sigil.device.errors import DeviceError, ServerRefused, Unreachable
from sigil.device.relay.client import RelayClient
from sigil.device.relay.errors import NotRegisteredAtRelay, RelayLost, Replaced
from sigil.device.relay.events import Connected, Disconnected, Ignored, OnEvent, PendingFailed, Registered
from sigil.device.relay.frames import Frame
from sigil.device.relay.push_handler import PushHandler
from sigil.device.relay.timing import STABLE_SECONDS, ListenerTiming
from sigil.device.server_pin import ServerPin
from sigil.device.software import Device
from sigil.protocol.relay_messages import Close

MAX_WAITING = 64
"""Pushes that came and were not looked at yet. What comes beyond is let go, and comes again unacknowledged."""
STOP_SECONDS = 5.0


class Listener:
    """Tells `on_event` of everything that `device` is pushed, checked against the pinned `server`.

    `inbox` asks the server what is pending, after each connect and for pushes without content.
    `registers_again` when the device was registered at this relay before: one that lost it is told anew, once.
    """

    def __init__(
        self,
        device: Device,
        relay: RelayClient,
        server: ServerPin,
        on_event: OnEvent,
        *,
        inbox: Callable[[], Awaitable[Inbox]] | None = None,
        registers_again: bool = False,
        pace: ListenerTiming | None = None,
    ) -> None:
        self._device, self._relay, self._tell = device, relay, on_event
        self._pace = pace or ListenerTiming()
        self._asks = inbox is not None
        self._reception = PushHandler(device.public, server, on_event, inbox, self._pace.clock)
        self._may_register = self._registers_again = registers_again
        self._waiting: asyncio.Queue[tuple[Callable[[str], Awaitable[None]], Frame, str]] = asyncio.Queue(MAX_WAITING)
        self._due, self._stopped = asyncio.Event(), asyncio.Event()
        self._backoff = self._pace.backoff()

    async def run(self) -> None:
        """Until `stop`, or what will not pass by itself: Replaced, NotRegisteredAtRelay, RelayAuthRefused, …"""
        work = [asyncio.create_task(part()) for part in (self._connections, self._pushes, self._listings)]
        stopped = asyncio.create_task(self._stopped.wait())
        try:
            await asyncio.wait([*work, stopped], return_when=asyncio.FIRST_COMPLETED)
            if self._stopped.is_set():
                await self._finish()
        finally:
            for task in (*work, stopped):
                task.cancel()
            await asyncio.gather(*work, stopped, return_exceptions=True)
        for task in work:
            if not task.cancelled() and (error := task.exception()) is not None:
                raise error

    def stop(self) -> None:
        """Acknowledge what was told, close the connection, and let `run` return."""
        self._stopped.set()

    def ask_again(self, challenge_id: str) -> None:
        """Ask the server, and tell of this challenge once more if it is still pending."""
        self._reception.forget(challenge_id)
        self._due.set()

    async def _finish(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STOP_SECONDS):
                await self._waiting.join()

    async def _connections(self) -> None:
        while True:
            try:
                await self._connection()
            except NotRegisteredAtRelay:
                await self._register()
            except RelayLost as lost:
                await self._pause(lost.message, lost.close_code, self._backoff.next())

    async def _connection(self) -> None:
        socket = await self._relay.connect(self._device)
        began = self._pace.monotonic()
        self._may_register = self._registers_again
        async with socket:
            await self._tell(Connected(self._relay.origin))
            self._due.set()
            try:
                while True:
                    frame = await self._heard(socket.receive)
                    if frame.push_id is not None:
                        self._wait(socket.acknowledge, frame, frame.push_id)
                    elif frame.type == "ping":
                        await socket.pong()
                    else:
                        await self._tell(Ignored(frame.type[:64], None))
            except RelayLost as lost:
                if self._pace.monotonic() - began >= STABLE_SECONDS:
                    self._backoff.reset()
                if lost.close_code != Close.SHUTDOWN:
                    raise
                reason = lost.message
        await self._pause(reason, Close.SHUTDOWN, self._backoff.soon())

    async def _heard(self, receive: Callable[[], Awaitable[Frame]]) -> Frame:
        try:
            async with asyncio.timeout(self._pace.silence_seconds):
                return await receive()
        except TimeoutError as error:
            raise RelayLost(f"Nothing came from the relay for {self._pace.silence_seconds:.0f} s.") from error

    def _wait(self, acknowledge: Callable[[str], Awaitable[None]], frame: Frame, push_id: str) -> None:
        # Not looked at here: that may take a request to the server, and pings must be answered meanwhile.
        with contextlib.suppress(asyncio.QueueFull):
            self._waiting.put_nowait((acknowledge, frame, push_id))

    async def _pause(self, reason: str, close_code: int | None, seconds: float) -> None:
        await self._tell(Disconnected(reason, close_code, seconds))
        await self._pace.sleep(seconds)

    async def _register(self) -> None:
        """NotRegisteredAtRelay when that is not for us to do, or did not help."""
        if not self._may_register:
            raise NotRegisteredAtRelay
        try:
            await self._relay.register(self._device)
        except (Unreachable, ServerRefused) as error:
            if not _passing(error):
                raise
            await self._pause(error.message, None, self._backoff.next())
            return
        self._may_register = False
        await self._tell(Registered(self._relay.origin))

    async def _pushes(self) -> None:
        while True:
            acknowledge, frame, push_id = await self._waiting.get()
            try:
                if await self._reception.push(frame, push_id):
                    # On the connection that it came by; when that is gone, it comes again and is a repeat.
                    with contextlib.suppress(RelayLost, Replaced):
                        await acknowledge(push_id)
            finally:
                self._waiting.task_done()

    async def _listings(self) -> None:
        while True:
            await self._due.wait()
            self._due.clear()
            backoff = self._pace.backoff()
            while self._asks and not await self._listed():
                await self._pace.sleep(backoff.next())

    async def _listed(self) -> bool:
        """False when it should be tried again."""
        try:
            await self._reception.listing()
        except DeviceError as error:
            await self._tell(PendingFailed(error))
            return not _passing(error)
        return True


def _passing(error: DeviceError) -> bool:
    return isinstance(error, Unreachable) or (isinstance(error, ServerRefused) and error.passing)
