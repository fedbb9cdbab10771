"""Posts events to the webhook receiver, signed for each attempt, on keep-alive connections (docs/protocol.md, 5.4)."""

from __future__ import annotations

import asyncio
import contextlib
import email.utils
import os
import socket
import ssl
from collections.abc import Callable, Sequence
from datetime import UTC

import aiohttp
from yarl import URL

from sigil.core.webhooks.delivery import AttemptResult
from sigil.protocol.webhook import signed_headers
from sigil.serving.addresses.private_networks import is_private
from sigil.serving.settings import Secret
from sigil.webhooks.service import ATTEMPT_SECONDS, NO_ANSWER, NO_CONNECTION, UNKNOWN_NAME

MAX_READ = 20_000
"""Bytes that are read of a response body, to keep the connection open; they are discarded."""
DRAIN_SECONDS = 1.0
"""For those bytes: only the status counts, and it has arrived by then."""
_KEEP_ALIVE_SECONDS = 4.0
"""How long an idle connection is kept: less than the 5 s after which common servers close it, since an event that is
posted on a closing connection has to be tried again."""

_DNS_SECONDS = 10
"""How long the address of a name is cached; the address of each connection is checked all the same."""


class NotPrivate(OSError):
    """Plain http would have left private networks."""


class HttpWebhookSender:
    """`sigil.webhooks.service.WebhookSender` to `url`; one secret or two (new, old). `clock` gives Unix seconds."""

    def __init__(
        self,
        url: str,
        secrets: Sequence[Secret],
        *,
        clock: Callable[[], float],
        user_agent: str,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        # Exactly as configured: the path may hold a token, which normalisation would change.
        self._url = URL(url, encoded=True)
        self._secrets = tuple(secrets)
        self._clock = clock
        self._headers = {
            "Content-Type": "application/json",
            "User-Agent": user_agent,
            "Accept": "*/*",
            "Accept-Encoding": "identity",
        }
        # Reading the system's certificates is slow: it happens here, not while requests are served.
        self._tls = (tls or ssl.create_default_context()) if self._url.scheme == "https" else None
        self._session: aiohttp.ClientSession | None = None

    async def post(self, event: str, body: bytes, traceparent: str | None = None) -> AttemptResult:
        headers = signed_headers([secret.reveal() for secret in self._secrets], event, int(self._clock()), body)
        if traceparent is not None:
            headers["traceparent"] = traceparent
        result = AttemptResult(0, NO_ANSWER)
        try:
            async with asyncio.timeout(ATTEMPT_SECONDS):
                response = await self._connected().post(
                    self._url, data=body, headers=self._headers | headers, allow_redirects=False
                )
                retry_after = _retry_after(response.headers.get("Retry-After"), self._clock())
                result = AttemptResult(response.status, retry_after=retry_after)
                await _drain(response)
        except TimeoutError:
            return result
        # Only the type and the errno of the exception: its text may quote the URL.
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return AttemptResult(0, _reason(error))
        return result

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    def _connected(self) -> aiohttp.ClientSession:
        # Created here because it needs the running event loop.
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    limit=0,
                    ttl_dns_cache=_DNS_SECONDS,
                    keepalive_timeout=_KEEP_ALIVE_SECONDS,
                    ssl=self._tls or True,
                    socket_factory=_socket if self._tls else _private_socket,
                ),
                # `post` has its own timeout, and a receiver needs no cookies.
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                trust_env=False,
                read_bufsize=8192,
            )
        return self._session


def _socket(found: aiohttp.AddrInfoType) -> socket.socket:
    family, kind, protocol, _, _ = found
    return socket.socket(family, kind, protocol)


def _private_socket(found: aiohttp.AddrInfoType) -> socket.socket:
    """For plain http: checks the address of each connection, so that DNS rebinding gains nothing."""
    if not is_private(str(found[4][0])):
        raise NotPrivate("plain http goes to loopback and private addresses only")
    return _socket(found)


async def _drain(response: aiohttp.ClientResponse) -> None:
    """Keep the connection if the rest of the response is short, else close it."""
    if response.content.at_eof():
        response.release()
        return
    try:
        with contextlib.suppress(TimeoutError, aiohttp.ClientError, OSError):
            async with asyncio.timeout(DRAIN_SECONDS):
                left = MAX_READ
                while left > 0 and (part := await response.content.read(left)):
                    left -= len(part)
    finally:
        # A connection with unread bytes of a response is not reused.
        response.release() if response.content.at_eof() else response.close()


def _retry_after(text: str | None, now: float) -> float:
    """Seconds from now, of a header that holds seconds or a date; 0 without the header or with another value."""
    if not text:
        return 0.0
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        at = email.utils.parsedate_to_datetime(text)
        return max(0.0, at.replace(tzinfo=at.tzinfo or UTC).timestamp() - now)
    # A year or an offset that datetime does not support.
    except (ValueError, OverflowError):
        return 0.0


_REASONS: tuple[tuple[type[Exception], str], ...] = (
    (aiohttp.ClientConnectorCertificateError, "a certificate that is not trusted"),
    (aiohttp.ClientConnectorDNSError, UNKNOWN_NAME),
    (aiohttp.ClientSSLError, "no TLS"),
    (aiohttp.ServerDisconnectedError, "closed without an answer"),
    (aiohttp.ClientResponseError, "an answer that is not HTTP"),
)


def _reason(error: Exception) -> str:
    if isinstance(error, aiohttp.ClientConnectorError) and isinstance(error.os_error, NotPrivate):
        return str(error.os_error)
    reason = next((reason for kind, reason in _REASONS if isinstance(error, kind)), None)
    if reason is not None:
        return reason
    number = error.errno if isinstance(error, OSError) else None
    return f"{NO_CONNECTION} ({os.strerror(number) if number else type(error).__name__})"
