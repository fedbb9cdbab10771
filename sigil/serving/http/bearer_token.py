"""What is opened by a token that a person chose or was told, and how often it may be guessed."""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Callable

from falcon.asgi import Request

from sigil.protocol.errors import Unauthorized
from sigil.serving.http.client_address import ClientAddresses
from sigil.serving.http.rate_limits import FAILURE_COST, AddressLimiter, AddressRateLimit
from sigil.serving.settings import Secret

_GUESSES_PER_MINUTE = 10


class BearerTokenGuard:
    """Asks for a token that `fits`, or for none; `guesses` limits those who do not have it."""

    def __init__(self, fits: Callable[[str], bool] | None, guesses: AddressRateLimit, told: str) -> None:
        self._fits = fits
        self._guesses = guesses
        self._told = told

    @property
    def asks(self) -> bool:
        return self._fits is not None

    def check(self, req: Request) -> None:
        """RateLimited, then Unauthorized. Who is limited is not heard: else guessing could go on."""
        if self._fits is None:
            return
        token = bearer(req)
        if not token:
            # Nothing was guessed.
            raise Unauthorized(self._told)
        with self._guesses.charging_failures(req) as charged:
            charged.check()
            if not self._fits(token):
                raise Unauthorized(self._told)


def guesses_of(
    addresses: ClientAddresses, workers: int, clock: Callable[[], float] = time.monotonic
) -> AddressRateLimit:
    """Those who guess: ten times a minute, whatever the rate of others is. `clock` gives monotonic seconds."""
    return AddressRateLimit(addresses, AddressLimiter.of_worker(_GUESSES_PER_MINUTE * FAILURE_COST, workers, clock))


def metrics_guard(token: Secret | None, guesses: AddressRateLimit) -> BearerTokenGuard:
    """Of `GET /metrics`; open to all without a token."""
    told = "Send the metrics token as 'Authorization: Bearer <token>'."
    return BearerTokenGuard(same_as(token.reveal()) if token else None, guesses, told)


def same_as(token: str) -> Callable[[str], bool]:
    """Compared by hash: equal lengths, so that the time tells nothing, not even a length."""
    digest = _digest(token)
    return lambda given: hmac.compare_digest(digest, _digest(given))


def bearer(req: Request) -> str:
    """The token of the Authorization header, empty without one."""
    scheme, _, token = (req.get_header("AUTHORIZATION") or "").partition(" ")
    return token if scheme.lower() == "bearer" else ""


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
