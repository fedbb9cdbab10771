"""Who may read `GET /metrics`, the same for every service."""

from __future__ import annotations

from falcon.asgi import Request

from sigil.protocol.errors import Unauthorized
from sigil.serving.http.bearer_token import BearerTokenGuard, equals
from sigil.serving.http.client_address import is_from_this_host
from sigil.serving.http.rate_limits import AddressRateLimit
from sigil.serving.settings import Secret

_HINT = "Send the metrics token (METRICS_TOKEN) as 'Authorization: Bearer <token>'."
_LOCAL_ONLY = "Metrics are for this host alone until METRICS_TOKEN is a token, or off, which opens them to all."


class MetricsGuard:
    """Requires `token`. Without one, the request must come from this host, unless metrics are `open_to_all`."""

    def __init__(self, token: Secret | None, open_to_all: bool, guesses: AddressRateLimit) -> None:
        self._guard = BearerTokenGuard(equals(token.reveal()) if token else None, guesses, _HINT)
        self._local_only = token is None and not open_to_all

    def check(self, req: Request) -> None:
        """RateLimited after wrong tokens, Unauthorized."""
        self._guard.check(req)
        if self._local_only and not is_from_this_host(req):
            raise Unauthorized(_LOCAL_ONLY)
