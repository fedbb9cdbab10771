"""What waits for an answer, one at a time: asked, or decided beforehand."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Literal, Protocol

from sigil.device.approval_checks import Shown
from sigil.device.challenge_checks import CLOCK_ALLOWANCE_SECONDS
from sigil.device.client import ServerAnswer
from sigil.device.commands.output import Answered, Dismissed, Left, NotAnswered, Tell
from sigil.device.commands.terminal import Asks, confirmed, two_digits
from sigil.device.errors import DeviceError, ServerRefused, Unreachable
from sigil.device.relay.events import Cleared, Event, Received
from sigil.device.relay.timing import ListenerTiming
from sigil.protocol.forms import Decision, Reason

MAX_WAITING = 256
"""More than servers let be pending. What is beyond is dropped here and still listed by the server."""
SENDINGS = 5
Auto = Literal["approved", "rejected"]


class Answers(Protocol):
    """`AsyncDeviceClient`, as far as it is needed here."""

    def approve(self, shown: Shown, match_code: str | None = None) -> Awaitable[ServerAnswer]: ...

    def reject(self, shown: Shown, reason: Reason | None = None) -> Awaitable[ServerAnswer]: ...


class AnswerQueue:
    """`auto` decides unasked, `asks` asks a person, and with neither nothing is answered here.

    `on_failure`, set afterwards, is told of a challenge whose answer could not be brought to the server.
    """

    def __init__(
        self,
        client: Answers,
        tell: Tell,
        show: Callable[[Shown], None],
        *,
        auto: Auto | None = None,
        asks: Asks | None = None,
        once: bool = False,
        pace: ListenerTiming | None = None,
    ) -> None:
        self._client, self._tell, self._show = client, tell, show
        self._auto, self._asks, self._once = auto, asks, once
        self.on_failure: Callable[[str], None] = lambda challenge_id: None
        self._pace = pace or ListenerTiming()
        self._waiting: dict[str, Shown] = {}
        self._arrived = asyncio.Event()
        self._asking: tuple[str, asyncio.Task[tuple[Decision, str | None]]] | None = None
        self._withdrawn = ""

    async def on_event(self, event: Event) -> None:
        self._tell(event)
        if isinstance(event, Received):
            self._put(event.shown)
        elif isinstance(event, Cleared):
            self._dismiss(event.challenge_id, event.status)

    async def run(self) -> None:
        """For ever, or until one is answered with `once`; EOFError when the person went away."""
        while True:
            await self._arrived.wait()
            if not self._waiting:
                self._arrived.clear()
                continue
            shown = self._waiting.pop(next(iter(self._waiting)))
            self._show(shown)
            if await self._taken(shown) and self._once:
                return

    def _put(self, shown: Shown) -> None:
        if self._auto is None and self._asks is None:
            return
        if len(self._waiting) >= MAX_WAITING:
            del self._waiting[next(iter(self._waiting))]
        self._waiting[shown.id] = shown
        self._arrived.set()

    def _dismiss(self, challenge_id: str, status: str) -> None:
        if self._waiting.pop(challenge_id, None) is not None:
            self._tell(Dismissed(challenge_id, status))
        elif self._asking is not None and self._asking[0] == challenge_id:
            # Told when the question is off the terminal.
            self._withdrawn = status
            self._asking[1].cancel()

    async def _taken(self, shown: Shown) -> bool:
        if self._auto is not None:
            if self._auto == "approved" and shown.number_matching:
                self._tell(Left(shown.id))
                return False
            return await self._sent(shown, self._auto, None)
        asked = await self._person(shown)
        return asked is not None and await self._sent(shown, *asked)

    async def _person(self, shown: Shown) -> tuple[Decision, str | None] | None:
        """None when the question was withdrawn, or outlived its challenge."""
        assert self._asks is not None  # noqa: S101 - for the type checker
        task = asyncio.create_task(_decision(self._asks, shown))
        self._asking = shown.id, task
        left = shown.expires_at + CLOCK_ALLOWANCE_SECONDS - self._pace.clock()
        self._withdrawn = "expired"
        try:
            await asyncio.wait([task], timeout=max(0.0, left))
        finally:
            self._asking = None
            task.cancel()
            await asyncio.wait([task])
        if task.cancelled():
            self._tell(Dismissed(shown.id, self._withdrawn))
            return None
        return task.result()

    async def _sent(self, shown: Shown, decision: Decision, code: str | None) -> bool:
        backoff = self._pace.backoff()
        for sendings_left in reversed(range(SENDINGS)):
            try:
                answer = await self._send(shown, decision, code)
            except DeviceError as error:
                if not _passing(error):
                    return self._failed(shown, error, code)
                if not sendings_left or not shown.seconds_left(self._pace.clock()):
                    self._tell(NotAnswered(shown.id, error, "asked_again"))
                    self.on_failure(shown.id)
                    return False
                self._tell(NotAnswered(shown.id, error, "sent_again"))
                await self._pace.sleep(backoff.next())
                continue
            self._tell(Answered(shown.id, decision, answer.status))
            return True
        return False

    async def _send(self, shown: Shown, decision: Decision, code: str | None) -> ServerAnswer:
        if decision == "approved":
            return await self._client.approve(shown, code)
        return await self._client.reject(shown, "cancelled")

    def _failed(self, shown: Shown, error: DeviceError, code: str | None) -> bool:
        """A wrong number may be typed again, and the server counts how often; nothing else gets better."""
        again = code is not None and isinstance(error, ServerRefused) and error.status == 401
        self._tell(NotAnswered(shown.id, error, "asked_again" if again else "dropped"))
        if again:
            self._put(shown)
        return False


async def _decision(asks: Asks, shown: Shown) -> tuple[Decision, str | None]:
    if not await confirmed(asks, "Approve?"):
        return "rejected", None
    if not shown.number_matching:
        return "approved", None
    return "approved", await two_digits(asks, "The number that the service shows")


def _passing(error: DeviceError) -> bool:
    return isinstance(error, Unreachable) or (isinstance(error, ServerRefused) and error.passing)
