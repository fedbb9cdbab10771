"""VAPID (RFC 8292): the JWT by which a push service knows an application server."""

from __future__ import annotations

import re
from collections import OrderedDict
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey

from deploy.providers.webpush.base64url import decode

_KEPT = 1000
_MAX_LIFETIME_SECONDS = 86_400
_HEADER = re.compile(r"vapid +(?:t=([^\s,]+)\s*,\s*k=([^\s,]+)|k=([^\s,]+)\s*,\s*t=([^\s,]+))", re.IGNORECASE)
_CONTACT = re.compile(r"mailto:[^@\s]+@[^@\s]+|https://\S+")


class Rejected(Exception):
    """`status` is 401 without a token in the right form, 403 for one that proves nothing."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Vapid:
    """Verifies each signature once."""

    def __init__(self) -> None:
        self._claims: OrderedDict[tuple[str, str], dict[str, Any] | None] = OrderedDict()

    @property
    def distinct(self) -> int:
        """How many of the tokens of the last requests are valid."""
        return sum(claims is not None for claims in self._claims.values())

    def sender(self, authorization: str, origin: str, now: float) -> bytes:
        """The key of the application server (65 bytes); Rejected for a header that does not prove it to `origin`."""
        found = _HEADER.fullmatch(authorization.strip())
        if found is None:
            raise Rejected(401, "authorization must be: vapid t=<JWT>, k=<public key>")
        token, key = found[1] or found[4], found[2] or found[3]
        claims = self._verified(token, key)
        if claims is None:
            raise Rejected(403, "the JWT's signature is invalid for k")
        if claims.get("aud") != origin:
            raise Rejected(403, f"aud must be {origin}")
        expires_at = claims.get("exp")
        if not isinstance(expires_at, int) or not now < expires_at <= now + _MAX_LIFETIME_SECONDS:
            raise Rejected(403, "exp must be in the next 24 hours")
        contact = claims.get("sub")
        if contact is not None and not (isinstance(contact, str) and _CONTACT.fullmatch(contact)):
            raise Rejected(403, "sub must be a mailto: or https: URL")
        return decode(key) or b""

    def _verified(self, token: str, key: str) -> dict[str, Any] | None:
        """The claims; None for an invalid token."""
        at = (token, key)
        if at not in self._claims:
            self._claims[at] = _verify(token, key)
            if len(self._claims) > _KEPT:
                self._claims.popitem(last=False)
        return self._claims[at]


def _verify(token: str, key: str) -> dict[str, Any] | None:
    point = decode(key)
    if point is None or len(point) != 65:
        return None
    try:
        public = EllipticCurvePublicKey.from_encoded_point(SECP256R1(), point)
        # The caller checks the times and the audience: each has a message of its own.
        options: Any = {"verify_exp": False, "verify_aud": False, "verify_iat": False}
        claims: dict[str, Any] = jwt.decode(token, public, algorithms=["ES256"], options=options)
    except (jwt.PyJWTError, ValueError):
        return None
    return claims
