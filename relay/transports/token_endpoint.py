"""Google's OAuth 2.0 token endpoint (RFC 7523), over HTTP/1.1 with httpx."""

from __future__ import annotations

import asyncio
import ssl

import httpx
import msgspec

from relay.transports.access_tokens import AccessToken, TokenRejected, TokenUnavailable
from relay.transports.provider_errors import error_code

_GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_PHASE_TIMEOUTS = httpx.Timeout(connect=5, read=5, write=5, pool=5)
_TIMEOUT_SECONDS = 8.0
_MAX_RESPONSE_BYTES = 64 * 1024


class _Token(msgspec.Struct):
    access_token: str
    expires_in: int


class _Error(msgspec.Struct):
    error: str = ""


class TokenEndpoint:
    """One connection for each request: a token lives for an hour."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._http = httpx.AsyncClient(
            verify=ssl.create_default_context(),
            trust_env=False,
            follow_redirects=False,
            timeout=_PHASE_TIMEOUTS,
            limits=httpx.Limits(max_connections=1, max_keepalive_connections=0),
            headers={"User-Agent": "sigil-relay", "Accept": "application/json", "Accept-Encoding": "identity"},
        )

    async def fetch(self, assertion: str) -> AccessToken:
        """A new access token; TokenRejected, TokenUnavailable."""
        try:
            async with asyncio.timeout(_TIMEOUT_SECONDS):
                status, body = await self._post(assertion)
        except (httpx.HTTPError, httpx.InvalidURL, OSError, TimeoutError) as error:
            raise TokenUnavailable(f"unreachable ({type(error).__name__})") from error
        if status in {400, 401, 403}:
            raise TokenRejected(_error(body, status))
        if status != 200:
            raise TokenUnavailable(f"http_{status}")
        try:
            token = msgspec.json.decode(body, type=_Token)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise TokenUnavailable("malformed response") from None
        # The token becomes a header.
        if not (token.access_token.isascii() and token.access_token.isprintable()) or token.expires_in <= 0:
            raise TokenUnavailable("malformed response")
        return AccessToken(token.access_token, float(token.expires_in))

    async def _post(self, assertion: str) -> tuple[int, bytes]:
        form = {"grant_type": _GRANT, "assertion": assertion}
        async with self._http.stream("POST", self._url, data=form) as response:
            body = bytearray()
            async for part in response.aiter_raw():
                body += part
                if len(body) > _MAX_RESPONSE_BYTES:
                    raise TokenUnavailable("response too large")
            return response.status_code, bytes(body)

    async def close(self) -> None:
        await self._http.aclose()


def _error(body: bytes, status: int) -> str:
    try:
        reported = msgspec.json.decode(body, type=_Error).error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        reported = ""
    return error_code(reported, str(status))
