"""Who may come in: integrators by API key, everyone else by address."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from falcon.asgi import Request

from sigil.protocol.api_key import Caller, KeyRing
from sigil.protocol.errors import ChallengeAlreadyUsed, ChallengeExpired, Problem, Retryable, Unauthorized
from sigil.serving.limits import FAILURE_COST, AddressLimiter
from sigil.serving.proxies import ClientAddresses

# A signed answer that came too late, or a server that is busy.
_NOBODYS_FAULT = (ChallengeAlreadyUsed, ChallengeExpired, Retryable)


class Strangers:
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

    @contextmanager
    def failures_charged(self, req: Request) -> Iterator[Callable[[], None]]:
        """Around an answer: good ones cost nothing, so that many devices may share an address.

        What is yielded raises RateLimited for an exhausted address: it has its place after the body's own errors.
        """
        address = self._addresses.of(req)
        try:
            yield lambda: self._limiter.check(address)
        except _NOBODYS_FAULT:
            raise
        except Problem:
            self._limiter.charge(address, FAILURE_COST)
            raise


class Callers:
    """Integrators. A good key is never limited by address: behind one proxy all would share a stranger's fate."""

    def __init__(self, keys: KeyRing, strangers: Strangers) -> None:
        self._keys = keys
        self._strangers = strangers

    def authenticate(self, req: Request) -> Caller:
        """Unauthorized, the same for every reason, and charged to the address."""
        try:
            return self._keys.authenticate(req.get_header("AUTHORIZATION"))
        except Unauthorized:
            self._strangers.charge_failure(req)
            raise
