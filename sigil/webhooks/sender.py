"""The webhook receiver over HTTP: signed anew for each attempt, on kept connections (docs/protocol.md, 5.4)."""

from __future__ import annotations

import asyncio
import contextlib
import email.utils
import socket
import ssl
from collections.abc import Callable, Sequence
from datetime import UTC

import aiohttp
from yarl import URL

from sigil.core.webhook_delivery import AttemptResult
from sigil.protocol.webhook import signed_headers
from sigil.serving.private_networks import is_private
from sigil.serving.settings import Secret
from sigil.webhooks.service import ATTEMPT_SECONDS

MOST_READ = 20_000
"""Bytes that are read of an answer's body, to keep the connection; nothing is done with them."""
DRAIN_SECONDS = 1.0
"""For those bytes: what counts is the status, which is there by then."""
_KEPT_SECONDS = 4.0
"""How long an idle connection is kept: less than the 5 s after which common servers close it, since an event that
meets a closing connection has to be tried again."""

_DNS_SECONDS = 10
"""How long the address of a name is believed; where it leads is looked at for each connection all the same."""


class NotPrivate(OSError):
    """Plain http would have gone to the internet."""


class HttpWebhookSender:
    """`sigil.webhooks.Receiver` at `url`, with one secret or two (new, old). `clock` gives Unix seconds."""

    def __init__(
        self,
        url: str,
        secrets: Sequence[Secret],
        *,
        clock: Callable[[], float],
        user_agent: str,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        # As it was written: the path may be a token, which other spellings would spoil.
        self._url = URL(url, encoded=True)
        self._secrets = tuple(secrets)
        self._clock = clock
        self._headers = {
            "Content-Type": "application/json",
            "User-Agent": user_agent,
            "Accept": "*/*",
            "Accept-Encoding": "identity",
        }
        # Reading the system's certificates takes its time: now, and not on the way of requests.
        self._tls = (tls or ssl.create_default_context()) if self._url.scheme == "https" else None
        self._session: aiohttp.ClientSession | None = None

    async def post(self, event: str, body: bytes) -> AttemptResult:
        headers = signed_headers([secret.reveal() for secret in self._secrets], event, int(self._clock()), body)
        answer = AttemptResult(0, "no answer in time")
        try:
            async with asyncio.timeout(ATTEMPT_SECONDS):
                response = await self._connected().post(
                    self._url, data=body, headers=self._headers | headers, allow_redirects=False
                )
                retry_after = _retry_after(response.headers.get("Retry-After"), self._clock())
                answer = AttemptResult(response.status, retry_after=retry_after)
                await _drain(response)
        except TimeoutError:
            return answer
        # By its type: the text of an exception may quote the URL.
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return AttemptResult(0, _reason(error))
        return answer

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    def _connected(self) -> aiohttp.ClientSession:
        # Made where the loop runs.
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    limit=0,
                    ttl_dns_cache=_DNS_SECONDS,
                    keepalive_timeout=_KEPT_SECONDS,
                    ssl=self._tls or True,
                    socket_factory=_socket if self._tls else _private_socket,
                ),
                # Time is ours to keep, and nobody is logged in.
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
    """For plain http. Asked for the very address of each connection, so that a name that moves gains nothing."""
    if not is_private(str(found[4][0])):
        raise NotPrivate("plain http goes to loopback and private addresses only")
    return _socket(found)


async def _drain(response: aiohttp.ClientResponse) -> None:
    """Keep the connection if the rest of the answer is short, else close it."""
    if response.content.at_eof():
        response.release()
        return
    try:
        with contextlib.suppress(TimeoutError, aiohttp.ClientError, OSError):
            async with asyncio.timeout(DRAIN_SECONDS):
                left = MOST_READ
                while left > 0 and (part := await response.content.read(left)):
                    left -= len(part)
    finally:
        # A connection on which the answer goes on is not used again.
        response.release() if response.content.at_eof() else response.close()


def _retry_after(text: str | None, now: float) -> float:
    """Seconds from now of a header that gives seconds or a date; 0 for none, and for one that says neither."""
    if not text:
        return 0.0
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        at = email.utils.parsedate_to_datetime(text)
        return max(0.0, at.replace(tzinfo=at.tzinfo or UTC).timestamp() - now)
    # A year or an offset that no datetime has.
    except (ValueError, OverflowError):
        return 0.0


_REASONS: tuple[tuple[type[Exception], str], ...] = (
    (aiohttp.ClientConnectorCertificateError, "a certificate that is not trusted"),
    (aiohttp.ClientConnectorDNSError, "a name that is not known"),
    (aiohttp.ClientSSLError, "no TLS"),
    (aiohttp.ServerDisconnectedError, "closed without an answer"),
    (aiohttp.ClientResponseError, "an answer that is not HTTP"),
)


def _reason(error: Exception) -> str:
    if isinstance(error, aiohttp.ClientConnectorError) and isinstance(error.os_error, NotPrivate):
        return str(error.os_error)
    words = next((words for kind, words in _REASONS if isinstance(error, kind)), "no connection")
    return f"{words} ({type(error).__name__})"
