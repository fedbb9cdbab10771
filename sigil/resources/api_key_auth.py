"""Authentication of integrators by API key."""

from __future__ import annotations

from falcon.asgi import Request

from sigil.protocol.api_key import Caller, KeyRing
from sigil.protocol.errors import Unauthorized
from sigil.serving.http.rate_limits import AddressRateLimit
from sigil.serving.tracing.current import set_authenticated


class ApiKeyAuth:
    """Authenticates requests with the bearer key.

    Only failures count against the client's address. A valid key is never limited by address: behind one proxy, an
    unauthenticated client could otherwise exhaust the limit of every integrator.
    """

    def __init__(self, keys: KeyRing, rate_limit: AddressRateLimit) -> None:
        self._keys = keys
        self._rate_limit = rate_limit

    def authenticate(self, req: Request) -> Caller:
        """The caller. Raises Unauthorized, the same for every reason, and charges the address."""
        try:
            caller = self._keys.authenticate(req.get_header("AUTHORIZATION"))
        except Unauthorized:
            self._rate_limit.charge_failure(req)
            raise
        set_authenticated(req)
        return caller
