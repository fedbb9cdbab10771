"""A device that stays connected to its relay until it is stopped or a permanent error occurs."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from sigil.device.client import Inbox
from sigil.device.errors import DeviceError, is_temporary
from sigil.device.relay.client import RelayClient
from sigil.device.relay.errors import NotRegisteredAtRelay, RelayLost, Replaced
from sigil.device.relay.events import Connected, Disconnected, Ignored, OnEvent, PendingFailed, Registered
from sigil.device.relay.frames import Frame
from sigil.device.relay.push_handler import PushHandler
from sigil.device.relay.timing import STABLE_SECONDS, ListenerTiming
from sigil.device.server_pin import ServerPin
from sigil.device.software import Device
from sigil.protocol.messages.relay import Close

MAX_QUEUED = 64
"""Received pushes that are not handled yet. Further pushes are dropped; the relay sends them again unacknowledged."""
STOP_SECONDS = 5.0
WAITED_SECONDS = 30.0
"""After a connect, the relay sends what has waited: a query of the server then shows what is still pending."""


class _Received(NamedTuple):
    """A push, the way to acknowledge it, and when it arrived, if it may have waited at the relay."""

    acknowledge: Callable[[str], Awaitable[None]]
    frame: Frame
    push_id: str
    waiting_since: float | None


class Listener:
    """Reports to `on_event` every push to `device`, checked against the pinned `server`.

    `inbox` queries the server for pending challenges, after each connect and for pushes without content.
    `reregister`: the device was registered at this relay before, so it registers again, once, if the relay lost it.
    """

    def __init__(
        self,
        device: Device,
        relay: RelayClient,
        server: ServerPin,
        on_event: OnEvent,
        *,
        inbox: Callable[[], Awaitable[Inbox]] | None = None,
        reregister: bool = False,
        timing: ListenerTiming | None = None,
    ) -> None:
        self._device, self._relay, self._on_event = device, relay, on_event
        self._timing = timing or ListenerTiming()
        self._has_inbox = inbox is not None
        self._handler = PushHandler(device.public, server, on_event, inbox, self._timing)
        self._may_register = self._reregister = reregister
        self._queue: asyncio.Queue[_Received] = asyncio.Queue(MAX_QUEUED)
        self._connected_at = 0.0
        self._fetch_due, self._stopped = asyncio.Event(), asyncio.Event()
        self._backoff = self._timing.backoff()

    async def run(self) -> None:
        """Until `stop`, or a permanent error: Replaced, NotRegisteredAtRelay, RelayAuthRefused, …"""
        loops = (self._keep_connected, self._handle_pushes, self._fetch_when_due)
        work = [asyncio.create_task(loop()) for loop in loops]
        stopped = asyncio.create_task(self._stopped.wait())
        try:
            await asyncio.wait([*work, stopped], return_when=asyncio.FIRST_COMPLETED)
            if self._stopped.is_set():
                await self._drain()
        finally:
            for task in (*work, stopped):
                task.cancel()
            await asyncio.gather(*work, stopped, return_exceptions=True)
        for task in work:
            if not task.cancelled() and (error := task.exception()) is not None:
                raise error

    def stop(self) -> None:
        """Acknowledge the reported pushes, close the connection, and let `run` return."""
        self._stopped.set()

    def report_again(self, challenge_id: str) -> None:
        """Query the server, and report this challenge once more if it is still pending."""
        self._handler.forget(challenge_id)
        self._fetch_due.set()

    async def _drain(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STOP_SECONDS):
                await self._queue.join()

    async def _keep_connected(self) -> None:
        while True:
            try:
                await self._connect_once()
            except NotRegisteredAtRelay:
                await self._register()
            except RelayLost as lost:
                await self._pause(lost.message, lost.close_code, self._backoff.next())

    async def _connect_once(self) -> None:
        socket = await self._relay.connect(self._device)
        began = self._connected_at = self._timing.monotonic()
        self._may_register = self._reregister
        async with socket:
            await self._on_event(Connected(self._relay.origin))
            self._fetch_due.set()
            try:
                while True:
                    frame = await self._receive(socket.receive)
                    if frame.push_id is not None:
                        self._enqueue(socket.acknowledge, frame, frame.push_id)
                    elif frame.type == "ping":
                        await socket.pong()
                    else:
                        await self._on_event(Ignored(frame.type[:64], None))
            except RelayLost as lost:
                if self._timing.monotonic() - began >= STABLE_SECONDS:
                    self._backoff.reset()
                if lost.close_code != Close.SHUTDOWN:
                    raise
                reason = lost.message
        await self._pause(reason, Close.SHUTDOWN, self._backoff.soon())

    async def _receive(self, receive: Callable[[], Awaitable[Frame]]) -> Frame:
        try:
            async with asyncio.timeout(self._timing.silence_seconds):
                return await receive()
        except TimeoutError as error:
            raise RelayLost(f"The relay sent nothing for {self._timing.silence_seconds:.0f} s.") from error

    def _enqueue(self, acknowledge: Callable[[str], Awaitable[None]], frame: Frame, push_id: str) -> None:
        # Not handled here: that may need a request to the server, and pings must be answered meanwhile.
        with contextlib.suppress(asyncio.QueueFull):
            now = self._timing.monotonic()
            waiting_since = now if now - self._connected_at < WAITED_SECONDS else None
            self._queue.put_nowait(_Received(acknowledge, frame, push_id, waiting_since))

    async def _pause(self, reason: str, close_code: int | None, seconds: float) -> None:
        await self._on_event(Disconnected(reason, close_code, seconds))
        await self._timing.sleep(seconds)

    async def _register(self) -> None:
        """NotRegisteredAtRelay when the device may not register here, or registered in vain."""
        if not self._may_register:
            raise NotRegisteredAtRelay
        try:
            await self._relay.register(self._device)
        except DeviceError as error:
            if not is_temporary(error):
                raise
            await self._pause(error.message, None, self._backoff.next())
            return
        self._may_register = False
        await self._on_event(Registered(self._relay.origin))

    async def _handle_pushes(self) -> None:
        while True:
            acknowledge, frame, push_id, waiting_since = await self._queue.get()
            try:
                if await self._handler.handle(frame, push_id, waiting_since=waiting_since):
                    # On the connection that delivered it. If that is closed, the push arrives again, as a repeat.
                    with contextlib.suppress(RelayLost, Replaced):
                        await acknowledge(push_id)
            finally:
                self._queue.task_done()

    async def _fetch_when_due(self) -> None:
        while True:
            await self._fetch_due.wait()
            self._fetch_due.clear()
            backoff = self._timing.backoff()
            while self._has_inbox and not await self._fetch_pending():
                await self._timing.sleep(backoff.next())

    async def _fetch_pending(self) -> bool:
        """False when it should be retried."""
        try:
            await self._handler.fetch_pending()
        except DeviceError as error:
            await self._on_event(PendingFailed(error))
            return not is_temporary(error)
        return True
