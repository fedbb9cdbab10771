"""Bearer tokens that an operator sets or the log shows, and the rate limit for guesses."""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Callable

from falcon.asgi import Request

from sigil.protocol.errors import Unauthorized
from sigil.serving.http.client_address import ClientAddresses
from sigil.serving.http.rate_limits import FAILURE_COST, AddressBuckets, AddressRateLimit

_GUESSES_PER_MINUTE = 10


class BearerTokenGuard:
    """Requires a token that `matches`; with None, no token. `guesses` limits wrong tokens; errors carry `hint`."""

    def __init__(self, matches: Callable[[str], bool] | None, guesses: AddressRateLimit, hint: str) -> None:
        self._matches = matches
        self._guesses = guesses
        self._hint = hint

    @property
    def required(self) -> bool:
        return self._matches is not None

    def check(self, req: Request) -> None:
        """RateLimited, then Unauthorized. The right token does not lift the limit: guessing must stop."""
        if self._matches is None:
            return
        token = bearer(req)
        if not token:
            # No guess, so no charge.
            raise Unauthorized(self._hint)
        with self._guesses.charging(req) as charged:
            charged.check()
            if not self._matches(token):
                raise Unauthorized(self._hint)


def guess_limit(
    addresses: ClientAddresses, workers: int, clock: Callable[[], float] = time.monotonic
) -> AddressRateLimit:
    """Ten wrong tokens a minute, independent of the rate of other requests. `clock` gives monotonic seconds."""
    return AddressRateLimit(addresses, AddressBuckets.of_worker(_GUESSES_PER_MINUTE * FAILURE_COST, workers, clock))


def equals(token: str) -> Callable[[str], bool]:
    """A comparison by hash: both sides have the same length, so its time reveals nothing, not even a length."""
    digest = _digest(token)
    return lambda other: hmac.compare_digest(digest, _digest(other))


def bearer(req: Request) -> str:
    """The token of the Authorization header, empty without one."""
    scheme, _, token = (req.get_header("AUTHORIZATION") or "").partition(" ")
    return token if scheme.lower() == "bearer" else ""


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
