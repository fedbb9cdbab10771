"""`DeviceClient` for an event loop: hundreds of devices in a process share one connection and need no threads."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from sigil.device.approval_checks import Shown, ShownApproval
from sigil.device.client import Inbox, ServerAnswer, answer_body, check_decision, checked_inbox, with_clock_hint
from sigil.device.credential.async_client import AsyncCredentials
from sigil.device.credential.steps import approval_error, has_expired, with_credential
from sigil.device.errors import ServerRefused
from sigil.device.http.async_connection import AsyncServerConnection
from sigil.device.http.exchange import PendingResponse
from sigil.device.server_pin import ServerPin
from sigil.device.software import Device
from sigil.device.timestamps import AsyncMemoryTimestamps, Clock
from sigil.device.wrong_codes import MemoryWrongCodes, WrongCodes, wrong_code
from sigil.protocol.messages.base import Decision, Reason


class AsyncDeviceClient:
    """One device and its pinned server; raises what `AsyncHttp` raises."""

    def __init__(
        self,
        device: Device,
        server: ServerPin,
        connection: AsyncServerConnection,
        *,
        timestamps: Callable[[], Awaitable[int]] | None = None,
        clock: Clock = time.time,
        wrong_codes: WrongCodes | None = None,
        credentials: AsyncCredentials | None = None,
    ) -> None:
        self.device, self.server = device, server
        self._connection, self._clock = connection, clock
        self._wrong_codes = wrong_codes or MemoryWrongCodes()
        self._credentials = credentials
        self._timestamps = timestamps or AsyncMemoryTimestamps(clock, asyncio.sleep)

    async def inbox(self) -> Inbox:
        """All that is pending, every payload checked."""
        return checked_inbox(await self._pending(), self.server, self.device.public, self._clock())

    async def approve(self, shown: Shown, match_code: str | None = None) -> ServerAnswer:
        """MatchCodeRequired, MatchCodeUnexpected, MatchCodeWrong."""
        try:
            return await self._respond(shown, "approved", match_code=match_code)
        except ServerRefused as error:
            if wrong := wrong_code(error, shown.id, match_code, self._wrong_codes):
                raise wrong from error
            raise

    async def reject(self, shown: Shown, reason: Reason | None = None) -> ServerAnswer:
        return await self._respond(shown, "rejected", reason=reason)

    async def _pending(self) -> PendingResponse:
        try:
            return await self._fetch_pending()
        except ServerRefused as error:
            if error.status != 401:
                raise
        # The timestamp may be used already, as in `DeviceClient`.
        try:
            return await self._fetch_pending()
        except ServerRefused as error:
            raise with_clock_hint(error) from error

    async def _fetch_pending(self) -> PendingResponse:
        body = self.device.pending_body(self.server.server_id, await self._timestamps())
        return await self._connection.pending(body)

    async def _respond(
        self, shown: Shown, decision: Decision, *, match_code: str | None = None, reason: Reason | None = None
    ) -> ServerAnswer:
        # Always to the pinned server: respond_to was compared with it and is not used.
        body = answer_body(self.device, shown, decision, match_code, reason)
        try:
            answer = await self._send(shown, body, decision)
        except ServerRefused as error:
            raise approval_error(error) from error
        return check_decision(answer, decision)

    async def _send(self, shown: Shown, body: dict[str, str], decision: Decision) -> ServerAnswer:
        """Approvals have the credential, and a rejection never needs one. An expired one is renewed, once."""
        send = self._connection.vote if isinstance(shown, ShownApproval) else self._connection.respond
        if self._credentials is None or decision == "rejected":
            return await send(body)
        credential = await self._credentials.for_approval()
        try:
            return await send(with_credential(body, credential))
        except ServerRefused as error:
            if not has_expired(error) or (renewed := await self._credentials.renewed()) is None:
                raise
        return await send(with_credential(body, renewed))
