"""What strangers have to pay for: who sends no key is known by an address alone."""

from __future__ import annotations

from falcon.asgi import Request

from sigil.protocol.errors import (
    AlreadyAnswered,
    ChallengeAlreadyUsed,
    ChallengeExpired,
    MpaClosed,
    MpaExpired,
    NotEligible,
    Problem,
    Retryable,
)
from sigil.serving.http.client_address import ClientAddresses
from sigil.serving.http.limits import FAILURE_COST, AddressLimiter

# A signed answer that came too late or does not count, or a server that is busy.
_NOBODYS_FAULT = (
    ChallengeAlreadyUsed,
    ChallengeExpired,
    AlreadyAnswered,
    MpaClosed,
    MpaExpired,
    NotEligible,
    Retryable,
)


class AddressRateLimit:
    """Addresses without a key: their requests, or only their failures, are charged to a rate."""

    def __init__(self, addresses: ClientAddresses, limiter: AddressLimiter) -> None:
        self._addresses = addresses
        self._limiter = limiter

    def charge(self, req: Request) -> None:
        """One ordinary request; RateLimited when the address has used up its minute."""
        address = self._addresses.of(req)
        self._limiter.check(address)
        self._limiter.charge(address)

    def charge_failure(self, req: Request) -> None:
        self._limiter.charge(self._addresses.of(req), FAILURE_COST)

    def charging_failures(self, req: Request) -> FailuresCharged:
        return FailuresCharged(self._limiter, self._addresses.of(req))


class FailuresCharged:
    """Around an answer: good ones cost nothing, so that many devices may share an address."""

    def __init__(self, limiter: AddressLimiter, address: str) -> None:
        self._limiter = limiter
        self._address = address

    def __enter__(self) -> FailuresCharged:
        return self

    def refuse_when_exhausted(self) -> None:
        """RateLimited; it has its place after the errors of the body."""
        self._limiter.check(self._address)

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, Problem) and not isinstance(error, _NOBODYS_FAULT):
            self._limiter.charge(self._address, FAILURE_COST)
