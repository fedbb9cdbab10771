"""`DeviceClient` for an event loop: hundreds of devices in a process share one connection and no threads."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from sigil.device.approval_checks import Shown, ShownApproval
from sigil.device.client import Inbox, ServerAnswer, as_signed, as_voted, checked_inbox, lasting, vote_of
from sigil.device.errors import ServerRefused
from sigil.device.http.async_connection import AsyncServerConnection
from sigil.device.http.connection import PendingAnswer
from sigil.device.server_pin import ServerPin
from sigil.device.software import Device
from sigil.device.timestamps import AsyncSecondsInMemory, Clock
from sigil.protocol.forms import Decision, Reason


class AsyncDeviceClient:
    """One device and its pinned server; raises what `AsyncHttp` raises."""

    def __init__(
        self,
        device: Device,
        server: ServerPin,
        connection: AsyncServerConnection,
        *,
        seconds: Callable[[], Awaitable[int]] | None = None,
        clock: Clock = time.time,
    ) -> None:
        self.device, self.server = device, server
        self._connection, self._clock = connection, clock
        self._seconds = seconds or AsyncSecondsInMemory(clock, asyncio.sleep)

    async def inbox(self) -> Inbox:
        """What is pending, every payload checked."""
        return checked_inbox(await self._pending(), self.server, self.device.public, self._clock())

    async def approve(self, shown: Shown, match_code: str | None = None) -> ServerAnswer:
        """MatchCodeRequired, MatchCodeUnexpected."""
        return await self._respond(shown, "approved", match_code=match_code)

    async def reject(self, shown: Shown, reason: Reason | None = None) -> ServerAnswer:
        return await self._respond(shown, "rejected", reason=reason)

    async def _pending(self) -> PendingAnswer:
        try:
            return await self._ask_pending()
        except ServerRefused as error:
            if error.status != 401:
                raise
        # The second may be used up, as in `DeviceClient`.
        try:
            return await self._ask_pending()
        except ServerRefused as error:
            raise lasting(error) from error

    async def _ask_pending(self) -> PendingAnswer:
        body = self.device.pending_body(self.server.server_id, await self._seconds())
        return await self._connection.pending(body)

    async def _respond(
        self, shown: Shown, decision: Decision, *, match_code: str | None = None, reason: Reason | None = None
    ) -> ServerAnswer:
        # Always to the pinned server: respond_to was compared with it and is not used.
        if isinstance(shown, ShownApproval):
            body = vote_of(self.device, shown, decision, match_code, reason)
            return as_voted(await self._connection.vote(body), decision)
        body = self.device.response(shown, decision, match_code=match_code, reason=reason)
        return as_signed(await self._connection.respond(body), decision)
