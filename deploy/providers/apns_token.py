"""The provider token of APNs: a JWT that the team's key signed (Apple: "Establishing a token-based connection")."""

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
    """Verifies each token once. `distinct` are those that were valid."""

    def __init__(self, team_key: TeamKey) -> None:
        self._team_key = team_key
        self._issued_at: OrderedDict[str, int | None] = OrderedDict()
        self.distinct = 0

    def issued_at(self, token: str) -> int | None:
        """When it was signed, in unix seconds; None for one that is not ours."""
        if token not in self._issued_at:
            at = self._issued_at[token] = self._verify(token)
            self.distinct += at is not None
            if len(self._issued_at) > _KEPT:
                self._issued_at.popitem(last=False)
        return self._issued_at[token]

    def _verify(self, token: str) -> int | None:
        ours = self._team_key
        try:
            if jwt.get_unverified_header(token).get("kid") != ours.key_id:
                return None
            # Apple's limit of age is told apart from a bad signature, so it is the caller's.
            options: Any = {"require": ["iss", "iat"], "verify_iat": False}
            claims = jwt.decode(token, ours.key, algorithms=["ES256"], issuer=ours.team_id, options=options)
        except jwt.PyJWTError:
            return None
        at = claims["iat"]
        return at if isinstance(at, int) else None


def expired(issued_at: int, now: float, lifetime: float) -> bool:
    return now - issued_at > lifetime


def of_the_future(issued_at: int, now: float) -> bool:
    return issued_at - now > _CLOCK_SKEW_SECONDS
