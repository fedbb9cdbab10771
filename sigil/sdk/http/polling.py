"""Long polls until a challenge, an approval request or an enrolment has ended."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import Protocol, TypeVar

from sigil.sdk.errors import ConfigurationError, ConnectionFailed, ResultTimeout
from sigil.sdk.http.clock import Clock
from sigil.sdk.http.retry import RetryPolicy, backoff
from sigil.sdk.http.sans_io import Operation, Pause

LONGEST_WAIT = 25
"""Seconds that the server holds a long poll."""
GRACE = 2.0
"""How many seconds after the caller's timeout the last response may arrive."""


class Final(Protocol):
    @property
    def is_final(self) -> bool: ...


S = TypeVar("S", bound=Final)


@dataclass(frozen=True)
class Polling:
    retry: RetryPolicy
    clock: Clock

    def until_final(
        self,
        poll: Callable[[int, RetryPolicy], Operation[S]],
        seconds: float,
        timeout_error: Callable[[S | None, str], ResultTimeout],
        reached: Callable[[S], bool] = lambda status: status.is_final,
    ) -> Operation[S]:
        """`poll` sends one long poll that waits for so many seconds. `timeout_error` makes the error when the caller's
        `seconds` end first, from the last status and a reason. `reached` is whether a status is the one waited for.
        """
        # Also false for NaN, with which the wait would never end.
        if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not seconds < math.inf:
            raise ConfigurationError("timeout must be a finite number of seconds, or None.")
        end = self.clock.monotonic() + max(0.0, seconds)
        for attempt in count(1):
            began = self.clock.monotonic()
            try:
                status = yield from self._poll(poll, end)
            except ConnectionFailed as error:
                # When the caller's own timeout cut the attempt short, the timeout is the error.
                if self.clock.monotonic() < end:
                    raise
                fault = error.message
                break
            now = self.clock.monotonic()
            if reached(status):
                return status
            if now >= end:
                raise timeout_error(status, "")
            yield from self._between_polls(attempt, now - began, end - now)
        raise timeout_error(None, f" Last failure: {fault}")

    def _poll(self, poll: Callable[[int, RetryPolicy], Operation[S]], end: float) -> Operation[S]:
        left = max(0.0, end - self.clock.monotonic())
        wait = min(LONGEST_WAIT, int(left))
        retry = RetryPolicy(self.retry.tries, min(self.retry.seconds + wait, left + GRACE))
        return (yield from poll(wait, retry))

    def _between_polls(self, attempt: int, took: float, left: float) -> Operation[None]:
        """A server that is full or stopping responds at once; polling again at once would flood it."""
        if left < 1:
            yield Pause(left)
        elif took < 1:
            yield Pause(min(left, backoff(attempt, self.clock)))
