"""The provider token of APNs: a JWT signed by the team's key (Apple: "Establishing a token-based connection")."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import jwt
import msgspec
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey

_KEPT = 1000
_CLOCK_SKEW_SECONDS = 60


class TeamKey(msgspec.Struct, frozen=True):
    key: EllipticCurvePublicKey
    key_id: str
    team_id: str


class ProviderTokens:
    """Verifies each token once. `distinct` counts the valid ones."""

    def __init__(self, team_key: TeamKey) -> None:
        self._team_key = team_key
        self._issued_at: OrderedDict[str, int | None] = OrderedDict()
        self.distinct = 0

    def issued_at(self, token: str) -> int | None:
        """When it was signed, in Unix seconds; None for an invalid token."""
        if token not in self._issued_at:
            issued_at = self._issued_at[token] = self._verify(token)
            self.distinct += issued_at is not None
            if len(self._issued_at) > _KEPT:
                self._issued_at.popitem(last=False)
        return self._issued_at[token]

    def _verify(self, token: str) -> int | None:
        team_key = self._team_key
        try:
            if jwt.get_unverified_header(token).get("kid") != team_key.key_id:
                return None
            # The caller checks the age: Apple has another error for it than for an invalid signature.
            options: Any = {"require": ["iss", "iat"], "verify_iat": False}
            claims = jwt.decode(token, team_key.key, algorithms=["ES256"], issuer=team_key.team_id, options=options)
        except jwt.PyJWTError:
            return None
        issued_at = claims["iat"]
        return issued_at if isinstance(issued_at, int) else None


def expired(issued_at: int, now: float, lifetime: float) -> bool:
    return now - issued_at > lifetime


def issued_in_future(issued_at: int, now: float) -> bool:
    return issued_at - now > _CLOCK_SKEW_SECONDS
