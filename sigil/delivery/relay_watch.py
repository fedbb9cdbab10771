"""Whether the relay is there: the first request without an answer says that it is not."""

from __future__ import annotations

from sigil.core.circuit_breaker import RELAY_KEY
from sigil.delivery.circuit_breaker import CircuitBreaker


class RelayWatch(CircuitBreaker):
    key = RELAY_KEY
