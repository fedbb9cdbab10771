"""The requests of an enrolment. An answer that is lost is fetched again with the same bytes, a few times."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from sigil.device.enrolment.errors import EnrolmentOutcomeUnknown, refusal
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
from sigil.device.errors import CertificateUntrusted, DeviceError, ServerRefused, is_temporary
from sigil.device.http.connection import ServerConnection
from sigil.device.server_pin import ServerPin
from sigil.device.timestamps import Clock, Sleep
from sigil.protocol.enrolment.code import Session
from sigil.protocol.messages.enrolment import EnrolmentCompleted

T = TypeVar("T")
PAUSES = (1.0, 2.0, 4.0, 8.0)
"""Seconds between the attempts of one request."""


class EnrolmentClient:
    """One enrolment at a pinned server. Raises OfferRefused, the errors of `errors.refusal`, and what
    `ServerConnection` raises.
    """

    def __init__(
        self, server: ServerPin, connection: ServerConnection, *, clock: Clock = time.time, sleep: Sleep = time.sleep
    ) -> None:
        self._server, self._connection, self._clock, self._sleep = server, connection, clock, sleep

    def claim(self, target: Target, claim_id: str) -> Offer:
        """The checked offer; the same claim_id may claim again."""
        answer = self._repeated(lambda: self._connection.claim_enrolment(claim_body(target, claim_id)))
        return checked_offer(answer, target, claim_id, self._server, self._clock())

    def complete(self, offer: Offer, body: dict[str, Any]) -> tuple[Session, EnrolmentCompleted]:
        """What the device shows, and the answer. The same body may be sent again."""
        answer = self._repeated(lambda: self._connection.complete_enrolment(body), known=True)
        return checked_session(answer, offer, body), answer

    def wait(self, offer: Offer) -> str | None:
        """Until the device is enrolled: its device_credential, if any. CodeNotConfirmed when it ends otherwise,
        EnrolmentEndUnknown when the server reports no end in time.
        """
        end = waiting_end(offer, self._clock())
        while True:
            enrolled, credential = self.poll(offer, WAIT_SECONDS)
            if enrolled:
                return credential
            check_waiting(end, self._clock())
            self._sleep(POLL_PAUSE_SECONDS)

    def poll(self, offer: Offer, wait: int) -> tuple[bool, str | None]:
        """Whether the device is enrolled, after at most `wait` seconds, and its device_credential."""
        answer = self._repeated(lambda: self._connection.wait_for_enrolment(wait_body(offer, wait)), known=True)
        return is_enrolled(answer), answer.device_credential

    def _repeated(self, send: Callable[[], T], *, known: bool = False) -> T:
        pauses = iter(PAUSES)
        while True:
            try:
                return send()
            except DeviceError as error:
                self._sleep(next_pause(error, pauses, known=known))


def next_pause(error: DeviceError, pauses: Iterator[float], *, known: bool) -> float:
    """Seconds until the next attempt; raises the typed error when there is none. `known`: the server had the
    enrolment before, so that it has lost it if it does not know it.
    """
    if (
        is_temporary(error)
        and not isinstance(error, CertificateUntrusted)
        and (pause := next(pauses, None)) is not None
    ):
        return pause
    if not isinstance(error, ServerRefused):
        raise error
    if known and error.code == "ENROLMENT_NOT_FOUND":
        raise EnrolmentOutcomeUnknown from error
    raise refusal(error) from error
