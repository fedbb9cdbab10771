"""Pushes and listings of one device, checked and told once each."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Literal

from sigil.device.approval_checks import Shown, verify_mpa_payload
from sigil.device.challenge_checks import verify_payload
from sigil.device.client import Inbox, claimed_id
from sigil.device.errors import DeviceError, PayloadRefused, ServerNotPinned
from sigil.device.relay.events import Cleared, Gone, Ignored, OnEvent, PendingFailed, Received, Refused, Repeated
from sigil.device.relay.frames import Frame, Reference, parse_clear, parse_reference
from sigil.device.relay.recent import Recent
from sigil.device.server_pin import ServerPin
from sigil.protocol.keys import PublicKey

REMEMBERED = 1024
"""More than a relay holds for a device (20) and a server lets be pending, by far."""


_VERIFY: dict[str, Callable[[bytes, ServerPin, PublicKey, float], Shown]] = {
    "challenge": verify_payload,
    "mpa": verify_mpa_payload,
}


class PushHandler:
    """`inbox` asks the server what is pending; without it nothing that is pushed by reference can be read."""

    def __init__(
        self,
        device: PublicKey,
        server: ServerPin,
        on_event: OnEvent,
        inbox: Callable[[], Awaitable[Inbox]] | None,
        clock: Callable[[], float],
    ) -> None:
        self._device, self._server, self._clock = device, server, clock
        self._tell, self._inbox = on_event, inbox
        self._pushes: Recent[bool] = Recent(REMEMBERED)
        # Only what passed the checks: else anyone could have something taken for a repeat by naming its id first.
        self._asked: Recent[Literal["told", "cleared"]] = Recent(REMEMBERED)
        self._refused: Recent[bool] = Recent(REMEMBERED)

    async def push(self, frame: Frame, push_id: str) -> bool:
        """Whether the push may be acknowledged: it may unless what it refers to could not be fetched."""
        if self._pushes.get(push_id):
            await self._tell(Repeated(claimed_id(frame.text), push_id))
            return True
        if not await self._first(frame, push_id):
            return False
        self._pushes.put(push_id, True)
        return True

    async def listing(self) -> Inbox:
        """Ask what is pending and tell what is new of it; DeviceError."""
        if self._inbox is None:
            return Inbox()
        inbox = await self._inbox()
        for refused in inbox.refused:
            await self._refuse(refused.challenge_id, refused.error)
        for shown in inbox.shown:
            # What was only cleared and is pending after all is told again: a `clear` is nobody's word.
            if self._asked.get(shown.id) != "told":
                await self._ask(shown, None)
        return inbox

    def forget(self, challenge_id: str) -> None:
        """The next listing tells it again."""
        self._asked.forget(challenge_id)

    async def _first(self, frame: Frame, push_id: str) -> bool:
        if frame.type in _VERIFY:
            return await self._content(frame, push_id)
        if frame.type == "clear" and (clear := parse_clear(frame.text)):
            if self._asked.get(clear.id):
                self._asked.put(clear.id, "cleared")
            await self._tell(Cleared(clear.id, clear.status[:64], push_id))
            return True
        await self._tell(Ignored(frame.type[:64], push_id))
        return True

    async def _content(self, frame: Frame, push_id: str) -> bool:
        try:
            if self._inbox is not None and (reference := parse_reference(frame.text)):
                return await self._referred(reference, push_id)
            shown = _VERIFY[frame.type](frame.text, self._server, self._device, self._clock())
        except PayloadRefused as error:
            # Acknowledged all the same: what is wrong with it will be wrong when it comes again.
            await self._tell(Refused(claimed_id(frame.text), error, push_id))
            return True
        if self._asked.get(shown.id):
            await self._tell(Repeated(shown.id, push_id))
        else:
            await self._ask(shown, push_id)
        return True

    async def _referred(self, reference: Reference, push_id: str) -> bool:
        if reference.server_id != self._server.server_id:
            raise ServerNotPinned
        if self._asked.get(reference.id):
            await self._tell(Repeated(reference.id, push_id))
            return True
        try:
            inbox = await self.listing()
        except DeviceError as error:
            await self._tell(PendingFailed(error))
            return False
        if reference.id not in inbox.listed_ids():
            await self._tell(Gone(reference.id, push_id))
        return True

    async def _ask(self, shown: Shown, push_id: str | None) -> None:
        self._asked.put(shown.id, "told")
        await self._tell(Received(shown, push_id))

    async def _refuse(self, challenge_id: str, error: PayloadRefused) -> None:
        """Once, although every listing shows it."""
        name = f"{error.code} {challenge_id}"
        if not self._refused.get(name):
            self._refused.put(name, True)
            await self._tell(Refused(challenge_id, error, None))
