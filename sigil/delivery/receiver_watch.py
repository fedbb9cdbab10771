"""Whether the webhook receiver is there: one answer says that it is, only many failures in a row that it is not."""

from __future__ import annotations

from collections.abc import Sequence

from sigil.core.circuit_breaker import RECEIVER_KEY
from sigil.core.webhook_delivery import AttemptResult
from sigil.delivery.circuit_breaker import CircuitBreaker

MOST_FAILURES = 10
"""In a row, in one worker. More than the tries of one event by the default schedule: one that a receiver chokes on
holds up no others. And a receiver that fails one time in five gets there once in ten million."""


class ReceiverWatch(CircuitBreaker):
    """The circuit breaker of webhooks."""

    key = RECEIVER_KEY
    _failures = 0

    async def heard(self, tries: Sequence[tuple[float, AttemptResult]], *, probing: bool) -> None:
        """What tries came to, each with the time at which it began, in the order of their ends."""
        there: list[float] = []
        lost: tuple[float, str] | None = None
        for began, answer in tries:
            if answer.outcome == "again":
                self._failures += 1
                lost = began, str(answer)
            else:
                self._failures = 0
                there.append(began)
        if there:
            await self.record_success(max(there))
        if lost and (probing or self._failures >= MOST_FAILURES):
            began, reason = lost
            await self.record_failure(reason, began, probing=probing)

    def _report(self, up: bool) -> None:
        # What failed before the outage that another worker saw end is not the beginning of the next one.
        if up and self._up is False:
            self._failures = 0
        super()._report(up)
