"""Google's access tokens: one for all who send, and a new one before it is needed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import NamedTuple

import jwt

from relay.credentials import FcmCredentials

SCOPE = "https://www.googleapis.com/auth/firebase.messaging"
REFRESHED_AT = 0.8
"""Of a token's life."""
_ASSERTION_SECONDS = 600
_PAUSE_SECONDS = 2.0


class AccessToken(NamedTuple):
    """`lives` is in seconds, from now."""

    text: str
    lives: float


class TokenRefused(Exception):
    """Google does not know the service account, or not its key; one word says what it said."""


class TokenUnavailable(Exception):
    """No token for now; a few words say why."""


class AccessTokens:
    """`fetch` exchanges an assertion for a token (TokenRefused, TokenUnavailable); `clock` gives Unix seconds."""

    def __init__(
        self,
        credentials: FcmCredentials,
        fetch: Callable[[str], Awaitable[AccessToken]],
        clock: Callable[[], float],
    ) -> None:
        self._credentials = credentials
        self._fetch = fetch
        self._clock = clock
        self._token = ""
        self._refresh_at = self._expires_at = 0.0
        self._fetching: asyncio.Task[str] | None = None
        self._failed: tuple[float, Exception] | None = None

    async def current(self) -> str:
        """TokenRefused, TokenUnavailable. Of all who ask at once, one asks Google."""
        now = self._clock()
        if self._token and now < self._expires_at:
            if now >= self._refresh_at:
                with suppress(TokenRefused, TokenUnavailable):
                    self._begin(now)
            return self._token
        # Who is cancelled does not cancel it for the others.
        return await asyncio.shield(self._begin(now))

    def refused(self, token: str) -> None:
        """Google does not take it any more, whatever it said about its life."""
        if token == self._token:
            self._token = ""

    async def close(self) -> None:
        if self._fetching is not None:
            self._fetching.cancel()
            await asyncio.gather(self._fetching, return_exceptions=True)

    def _begin(self, now: float) -> asyncio.Task[str]:
        """The fetch that is under way, or a new one; shortly after one that failed, its failure."""
        if self._fetching is not None:
            return self._fetching
        if self._failed is not None and abs(now - self._failed[0]) < _PAUSE_SECONDS:
            raise self._failed[1].with_traceback(None)
        self._fetching = asyncio.create_task(self._renew())
        self._fetching.add_done_callback(self._fetched)
        return self._fetching

    def _fetched(self, task: asyncio.Task[str]) -> None:
        self._fetching = None
        # Looked at here, as there may be nobody who waits for it.
        if not task.cancelled() and isinstance(error := task.exception(), Exception):
            self._failed = (self._clock(), error)

    async def _renew(self) -> str:
        began = self._clock()
        text, lives = await self._fetch(self._assertion(int(began)))
        self._token, self._failed = text, None
        self._refresh_at, self._expires_at = began + lives * REFRESHED_AT, began + lives
        return text

    def _assertion(self, now: int) -> str:
        claims = {
            "iss": self._credentials.client_email,
            "scope": SCOPE,
            "aud": self._credentials.token_url,
            "iat": now,
            "exp": now + _ASSERTION_SECONDS,
        }
        headers = {"kid": self._credentials.key_id}
        return jwt.encode(claims, self._credentials.key.reveal(), "RS256", headers=headers)
