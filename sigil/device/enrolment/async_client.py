"""`EnrolmentClient` for an event loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from sigil.device.enrolment.client import PAUSES, next_pause
from sigil.device.enrolment.steps import (
    POLL_PAUSE_SECONDS,
    WAIT_SECONDS,
    Offer,
    check_waiting,
    checked_offer,
    checked_session,
    claim_body,
    is_enrolled,
    wait_body,
    waiting_end,
)
from sigil.device.enrolment.target import Target
from sigil.device.errors import DeviceError
from sigil.device.http.async_connection import AsyncServerConnection
from sigil.device.server_pin import ServerPin
from sigil.device.timestamps import Clock
from sigil.protocol.enrolment.code import Session
from sigil.protocol.messages.enrolment import EnrolmentCompleted

T = TypeVar("T")


class AsyncEnrolmentClient:
    """One enrolment at a pinned server; raises what `EnrolmentClient` raises."""

    def __init__(
        self,
        server: ServerPin,
        connection: AsyncServerConnection,
        *,
        clock: Clock = time.time,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._server, self._connection, self._clock, self._sleep = server, connection, clock, sleep

    async def claim(self, target: Target, claim_id: str) -> Offer:
        """The checked offer; the same claim_id may claim again."""
        answer = await self._repeated(lambda: self._connection.claim_enrolment(claim_body(target, claim_id)))
        return checked_offer(answer, target, claim_id, self._server, self._clock())

    async def complete(self, offer: Offer, body: dict[str, Any]) -> tuple[Session, EnrolmentCompleted]:
        """What the device shows, and the answer. The same body may be sent again."""
        answer = await self._repeated(lambda: self._connection.complete_enrolment(body), known=True)
        return checked_session(answer, offer, body), answer

    async def wait(self, offer: Offer) -> str | None:
        """Until the device is enrolled: its device_credential, if any. CodeNotConfirmed when it ends otherwise,
        EnrolmentEndUnknown when the server reports no end in time.
        """
        end = waiting_end(offer, self._clock())
        while True:
            enrolled, credential = await self.poll(offer, WAIT_SECONDS)
            if enrolled:
                return credential
            check_waiting(end, self._clock())
            await self._sleep(POLL_PAUSE_SECONDS)

    async def poll(self, offer: Offer, wait: int) -> tuple[bool, str | None]:
        """Whether the device is enrolled, after at most `wait` seconds, and its device_credential."""
        answer = await self._repeated(lambda: self._connection.wait_for_enrolment(wait_body(offer, wait)), known=True)
        return is_enrolled(answer), answer.device_credential

    async def _repeated(self, send: Callable[[], Awaitable[T]], *, known: bool = False) -> T:
        pauses = iter(PAUSES)
        while True:
            try:
                return await send()
            except DeviceError as error:
                await self._sleep(next_pause(error, pauses, known=known))
