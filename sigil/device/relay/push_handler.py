"""Pushes and pending lists of one device: each challenge is checked, and reported once."""

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
from sigil.device.relay.timing import ListenerTiming
from sigil.device.server_pin import ServerPin
from sigil.protocol.keys import PublicKey

REMEMBERED = 1024
"""Far more than a relay holds for a device (20) and a server allows to be pending."""


_VERIFY: dict[str, Callable[[bytes, ServerPin, PublicKey, float], Shown]] = {
    "challenge": verify_payload,
    "mpa": verify_mpa_payload,
}


class PushHandler:
    """`inbox` queries the server for pending challenges; without it, a push by reference cannot be read."""

    def __init__(
        self,
        device: PublicKey,
        server: ServerPin,
        on_event: OnEvent,
        inbox: Callable[[], Awaitable[Inbox]] | None,
        timing: ListenerTiming,
    ) -> None:
        self._device, self._server, self._clock = device, server, timing.clock
        self._on_event, self._inbox, self._monotonic = on_event, inbox, timing.monotonic
        self._queried: tuple[float, set[str]] | None = None
        self._pushes: Recent[bool] = Recent(REMEMBERED)
        # Only ids that passed the checks: otherwise an attacker could send an id first and turn the real push into a
        # repeat.
        self._known: Recent[Literal["reported", "cleared"]] = Recent(REMEMBERED)
        self._refused: Recent[bool] = Recent(REMEMBERED)

    async def handle(self, frame: Frame, push_id: str, *, waiting_since: float | None = None) -> bool:
        """Whether the push may be acknowledged: always, unless the challenge it refers to could not be fetched.

        `waiting_since`: the monotonic time of the arrival of a push that may have waited at the relay. Its challenge
        may be answered by now, from a list of what is pending.
        """
        if self._pushes.get(push_id):
            await self._on_event(Repeated(claimed_id(frame.text), push_id))
            return True
        if not await self._handle_new(frame, push_id, waiting_since):
            return False
        self._pushes.put(push_id, True)
        return True

    async def fetch_pending(self) -> Inbox:
        """Query the server and report what is new; DeviceError."""
        if self._inbox is None:
            return Inbox()
        began = self._monotonic()
        inbox = await self._inbox()
        self._queried = began, inbox.listed_ids()
        for refused in inbox.refused:
            await self._report_refused(refused.challenge_id, refused.error)
        for shown in inbox.shown:
            # A challenge that was cleared but is still pending is reported again: a `clear` is not signed.
            if self._known.get(shown.id) != "reported":
                await self._report(shown, None)
        return inbox

    def forget(self, challenge_id: str) -> None:
        """The next `fetch_pending` reports it again."""
        self._known.forget(challenge_id)

    async def _handle_new(self, frame: Frame, push_id: str, waiting_since: float | None) -> bool:
        if frame.type in _VERIFY:
            return await self._handle_subject(frame, push_id, waiting_since)
        if frame.type == "clear" and (clear := parse_clear(frame.text)):
            if self._known.get(clear.id):
                self._known.put(clear.id, "cleared")
            await self._on_event(Cleared(clear.id, clear.status[:64], push_id))
            return True
        await self._on_event(Ignored(frame.type[:64], push_id))
        return True

    async def _handle_subject(self, frame: Frame, push_id: str, waiting_since: float | None) -> bool:
        try:
            if self._inbox is not None and (reference := parse_reference(frame.text)):
                return await self._handle_reference(reference, push_id)
            shown = _VERIFY[frame.type](frame.text, self._server, self._device, self._clock())
        except PayloadRefused as error:
            # Acknowledged all the same: a repeat would fail the same check.
            await self._on_event(Refused(claimed_id(frame.text), error, push_id))
            return True
        known = self._known.get(shown.id)
        if not known and waiting_since is not None and await self._has_ended(shown.id, waiting_since):
            await self._on_event(Gone(shown.id, push_id))
        # The query may have reported it.
        elif self._known.get(shown.id):
            await self._on_event(Repeated(shown.id, push_id))
        else:
            await self._report(shown, push_id)
        return True

    async def _has_ended(self, challenge_id: str, since: float) -> bool:
        """Whether a query that began after `since` did not list it. If the server cannot be reached, the challenge
        counts as pending: it passed the checks."""
        if self._inbox is None:
            return False
        if self._queried is None or self._queried[0] < since:
            began = self._monotonic()
            try:
                # Not reported here: the query after the connect does that, and this push has an id of its own.
                self._queried = began, (await self._inbox()).listed_ids()
            except DeviceError:
                return False
        return challenge_id not in self._queried[1]

    async def _handle_reference(self, reference: Reference, push_id: str) -> bool:
        if reference.server_id != self._server.server_id:
            raise ServerNotPinned
        if self._known.get(reference.id):
            await self._on_event(Repeated(reference.id, push_id))
            return True
        try:
            inbox = await self.fetch_pending()
        except DeviceError as error:
            await self._on_event(PendingFailed(error))
            return False
        if reference.id not in inbox.listed_ids():
            await self._on_event(Gone(reference.id, push_id))
        return True

    async def _report(self, shown: Shown, push_id: str | None) -> None:
        self._known.put(shown.id, "reported")
        await self._on_event(Received(shown, push_id))

    async def _report_refused(self, challenge_id: str, error: PayloadRefused) -> None:
        """Once, although every list contains it."""
        name = f"{error.code} {challenge_id}"
        if not self._refused.get(name):
            self._refused.put(name, True)
            await self._on_event(Refused(challenge_id, error, None))
