"""A circuit breaker for the relay's credentials: while a provider rejects them, one push a minute is tried."""

from __future__ import annotations

from collections.abc import Callable

from relay.transports import Load, Outcome, OutgoingPush, Transport
from relay.transports.outage_reason import OutageReason
from sigil.serving import logs

PROBE_SECONDS = 60.0
WAIT_SECONDS = 20.0
"""The delay of waiting pushes. It is shorter than a probe interval: pushes expire soon, and another push may have found
the credentials accepted again."""


class CredentialBreaker:
    """A transport that forwards all pushes to another while its credentials are accepted, and otherwise only probes.

    `clock` gives seconds. `on_denied` gets True when the provider starts to reject the credentials, and False when it
    accepts them, for the first time or again: before the first response nothing is known.
    """

    def __init__(
        self,
        provider: str,
        transport: Transport,
        *,
        clock: Callable[[], float],
        on_denied: Callable[[bool], None] = lambda denied: None,
    ) -> None:
        self._provider = provider
        self._transport = transport
        self._clock = clock
        self._on_denied = on_denied
        self._probe_at: float | None = None
        self._outage = OutageReason(clock)
        self._accepted = False

    def open(self) -> None:
        self._transport.open()

    async def close(self) -> None:
        await self._transport.close()

    def load(self) -> Load:
        return self._transport.load()

    async def send(self, push: OutgoingPush) -> Outcome:
        due = self._probe_at
        if due is not None:
            left = due - self._clock()
            if 0 < left <= PROBE_SECONDS:
                return Outcome("retry", "credentials_refused", after=min(left, WAIT_SECONDS))
            # This push is the probe.
            self._probe_at = self._clock() + PROBE_SECONDS
        outcome = await self._transport.send(push)
        if outcome.local:
            if due is not None and self._probe_at is not None:
                # The provider was not contacted: the next push is the probe.
                self._probe_at = due
        elif outcome.kind == "denied":
            return self._denied(outcome)
        elif outcome.kind != "retry" and not self._accepted:
            self._accepted = True
            self._on_denied(False)
            self._outage.ended()
            if self._probe_at is not None:
                self._probe_at = None
                logs.info("provider_credentials_accepted", provider=self._provider)
        return outcome

    def _denied(self, outcome: Outcome) -> Outcome:
        if self._probe_at is None:
            self._accepted = False
            self._on_denied(True)
        if self._outage.is_news(outcome.error or ""):
            logs.error(
                "provider_credentials_refused",
                provider=self._provider,
                reason=outcome.error,
                message="renew the key and send SIGHUP; until then the relay tries one push a minute",
            )
        self._probe_at = self._clock() + PROBE_SECONDS
        return Outcome("retry", "credentials_refused", after=WAIT_SECONDS)
