"""The token that authenticates the relay at a push service: RFC 8292."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple

import jwt
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

from relay.web_push_settings import VapidKey

LIFETIME_SECONDS = 12 * 3600
"""RFC 8292 allows 24 hours, counted by the clock of the service."""
REPLACED_AFTER_SECONDS = 11 * 3600
_MAX_TOKENS = 256


class _Token(NamedTuple):
    created_at: float
    header: bytes


class VapidTokens:
    """One token for each key and origin, since it names its origin; `clock` gives Unix seconds."""

    def __init__(self, contact: str | None, clock: Callable[[], float]) -> None:
        self._contact = contact
        self._clock = clock
        self._tokens: OrderedDict[tuple[bytes, str], _Token] = OrderedDict()
        self._loaded: dict[bytes, EllipticCurvePrivateKey] = {}

    def header(self, key: VapidKey, origin: str) -> bytes:
        """The value of the `authorization` header."""
        name, now = (key.public, origin), self._clock()
        token = self._tokens.get(name)
        # A negative age: the clock was set back.
        if token is None or not 0 <= now - token.created_at < REPLACED_AFTER_SECONDS:
            token = self._tokens[name] = _Token(now, self._make(key, origin, int(now)))
            self._tokens.move_to_end(name)
            if len(self._tokens) > _MAX_TOKENS:
                self._tokens.popitem(last=False)
        return token.header

    def _make(self, key: VapidKey, origin: str, now: int) -> bytes:
        private = self._loaded.get(key.public)
        if private is None:
            private = self._loaded[key.public] = key.load()
        claims: dict[str, str | int] = {"aud": origin, "exp": now + LIFETIME_SECONDS}
        if self._contact is not None:
            claims["sub"] = self._contact
        return f"vapid t={jwt.encode(claims, private, 'ES256')}, k={key.public_text}".encode()
