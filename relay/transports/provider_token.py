"""The provider token that authenticates the relay at APNs."""

from __future__ import annotations

from collections.abc import Callable

import jwt

from relay.credentials import ApnsCredentials

TOKEN_SECONDS = 40 * 60
"""Age at which a token is replaced. Apple accepts a new one after 20 minutes, and requires one after 60."""
MIN_TOKEN_SECONDS = 20 * 60


class ProviderToken:
    """One token for all connections: Apple rejects tokens that change too often. `clock` gives Unix seconds."""

    def __init__(self, credentials: ApnsCredentials, clock: Callable[[], float]) -> None:
        self._credentials = credentials
        self._clock = clock
        self._created_at = 0.0
        self._header = ""

    def header(self) -> str:
        """The value of the `authorization` header."""
        age = self._clock() - self._created_at
        # A negative age: the clock was set back.
        if not self._header or not 0 <= age < TOKEN_SECONDS:
            self._create()
        return self._header

    def replace_expired(self, header: str) -> bool:
        """The provider called the token of `header` expired: True when there is a newer one to try.

        Of many requests that used the same token, the first creates the new one."""
        if header == self._header:
            if 0 <= self._clock() - self._created_at < MIN_TOKEN_SECONDS:
                return False
            self._create()
        return True

    def _create(self) -> None:
        self._created_at = self._clock()
        claims = {"iss": self._credentials.team_id, "iat": int(self._created_at)}
        key = self._credentials.key.reveal()
        self._header = "bearer " + jwt.encode(claims, key, "ES256", headers={"kid": self._credentials.key_id})
