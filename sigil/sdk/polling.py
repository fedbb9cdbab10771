"""Long polls until what was asked has ended, as a conversation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import Protocol, TypeVar

from sigil.sdk.clock import Clock
from sigil.sdk.errors import ConnectionFailed, ResultTimeout
from sigil.sdk.retry import RetryPolicy, backoff
from sigil.sdk.sans_io import Operation, Pause

LONGEST_WAIT = 25
"""Seconds that the server holds a long poll."""
GRACE = 2.0
"""How far a last answer may come after the caller's time."""


class Final(Protocol):
    @property
    def is_final(self) -> bool: ...


S = TypeVar("S", bound=Final)


@dataclass(frozen=True)
class Polling:
    patience: RetryPolicy
    clock: Clock

    def until_final(
        self,
        look: Callable[[int, RetryPolicy], Operation[S]],
        seconds: float,
        late: Callable[[S | None, str], ResultTimeout],
    ) -> Operation[S]:
        """`look` asks once, and lets the server wait for so many seconds; `late` makes the error when the caller's
        `seconds` are over first.
        """
        end = self.clock.monotonic() + max(0.0, seconds)
        for attempt in count(1):
            began = self.clock.monotonic()
            try:
                status = yield from self._poll(look, end)
            except ConnectionFailed as error:
                # Where the caller's own time is what was too short, that is the error.
                if self.clock.monotonic() < end:
                    raise
                fault = error.message
                break
            now = self.clock.monotonic()
            if status.is_final:
                return status
            if now >= end:
                raise late(status, "")
            yield from self._between_polls(attempt, now - began, end - now)
        raise late(None, f" Last: {fault}")

    def _poll(self, look: Callable[[int, RetryPolicy], Operation[S]], end: float) -> Operation[S]:
        left = max(0.0, end - self.clock.monotonic())
        wait = min(LONGEST_WAIT, int(left))
        patience = RetryPolicy(self.patience.tries, min(self.patience.seconds + wait, left + GRACE))
        return (yield from look(wait, patience))

    def _between_polls(self, attempt: int, took: float, left: float) -> Operation[None]:
        """A server that is full or stopping answers at once; asking again at once would be a storm."""
        if left < 1:
            yield Pause(left)
        elif took < 1:
            yield Pause(min(left, backoff(attempt, self.clock)))
