"""Who may come in with an API key."""

from __future__ import annotations

from falcon.asgi import Request

from sigil.protocol.api_key import Caller, KeyRing
from sigil.protocol.errors import Unauthorized
from sigil.serving.http.rate_limits import AddressRateLimit


class ApiKeyAuth:
    """Integrators. A good key is never limited by address: behind one proxy all would share a stranger's fate."""

    def __init__(self, keys: KeyRing, strangers: AddressRateLimit) -> None:
        self._keys = keys
        self._strangers = strangers

    def authenticate(self, req: Request) -> Caller:
        """Unauthorized, the same for every reason, and charged to the address."""
        try:
            return self._keys.authenticate(req.get_header("AUTHORIZATION"))
        except Unauthorized:
            self._strangers.charge_failure(req)
            raise
