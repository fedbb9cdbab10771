"""Google's access token: one for all requests of a worker, renewed before it expires."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import NamedTuple

import jwt

from relay.credentials import FcmCredentials
from relay.transports.outage_reason import OutageReason
from sigil.serving import logs

SCOPE = "https://www.googleapis.com/auth/firebase.messaging"
REFRESHED_AT = 0.8
"""Fraction of a token's lifetime after which it is renewed."""
_ASSERTION_SECONDS = 600
_RETRY_SECONDS = 2.0


class AccessToken(NamedTuple):
    """`lifetime` is in seconds, from now."""

    text: str
    lifetime: float


class TokenRejected(Exception):
    """Google does not accept the service account or its key; the text is Google's error code."""


class TokenUnavailable(Exception):
    """No token for now; the text is the reason."""


class AccessTokens:
    """`fetch` exchanges an assertion for a token (TokenRejected, TokenUnavailable); `clock` gives Unix seconds."""

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
        self._outage = OutageReason()

    async def current(self) -> str:
        """TokenRejected, TokenUnavailable. Concurrent callers share one request to Google."""
        now = self._clock()
        if self._token and now < self._expires_at:
            if now >= self._refresh_at:
                with suppress(TokenRejected, TokenUnavailable):
                    self._start_fetch(now)
            return self._token
        # A cancelled caller does not cancel the request of the others.
        return await asyncio.shield(self._start_fetch(now))

    def invalidate(self, token: str) -> None:
        """Google rejected this token before it expired."""
        if token == self._token:
            self._token = ""

    async def close(self) -> None:
        if self._fetching is not None:
            self._fetching.cancel()
            await asyncio.gather(self._fetching, return_exceptions=True)

    def _start_fetch(self, now: float) -> asyncio.Task[str]:
        """The fetch in flight, or a new one. Within _RETRY_SECONDS after a failure, raises that failure."""
        if self._fetching is not None:
            return self._fetching
        if self._failed is not None and abs(now - self._failed[0]) < _RETRY_SECONDS:
            raise self._failed[1].with_traceback(None)
        self._fetching = asyncio.create_task(self._renew())
        self._fetching.add_done_callback(self._fetched)
        return self._fetching

    def _fetched(self, task: asyncio.Task[str]) -> None:
        self._fetching = None
        # The exception is retrieved here: a renewal in the background has no caller that awaits it.
        if task.cancelled():
            return
        error = task.exception()
        if isinstance(error, Exception):
            self._failed = (self._clock(), error)
        # TokenRejected is about the credentials, which the credential breaker logs.
        if isinstance(error, TokenUnavailable):
            if self._outage.is_news(str(error)):
                logs.error("provider_unreachable", provider="fcm", reason=f"no access token: {error}")
        elif self._outage.ended():
            logs.info("provider_reachable", provider="fcm")

    async def _renew(self) -> str:
        started_at = self._clock()
        text, lifetime = await self._fetch(self._assertion(int(started_at)))
        self._token, self._failed = text, None
        self._refresh_at, self._expires_at = started_at + lifetime * REFRESHED_AT, started_at + lifetime
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
