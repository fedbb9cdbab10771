"""What both transports share of one HTTP exchange: how httpx is set up, and what its failures mean."""

from __future__ import annotations

import ssl
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any

import httpx

from sigil.sdk.api_key import ApiKey
from sigil.sdk.errors import CertificateRefused, ConnectionFailed
from sigil.sdk.sans_io import Broken, Outcome, Reply, ResponseReader, Send

_HEADERS = {
    "Accept": "application/json",
    # Uncompressed, and read as it comes: the limit would not hold for what a small body unpacks to.
    "Accept-Encoding": "identity",
    "User-Agent": "sigil-sdk",
}
_KEPT_ALIVE_SECONDS = 15.0
FAILURES = (httpx.HTTPError, httpx.StreamError, OSError)
"""OSError covers time-outs of asyncio and what TLS sockets raise beside httpx's own names."""


class _Bearer(httpx.Auth):
    """Adds the key at the last moment, so that no header with it lies in anybody's variables."""

    def __init__(self, key: ApiKey) -> None:
        self._key = key

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        request.headers["Authorization"] = self._key.authorization()
        yield request


@dataclass(frozen=True)
class HttpOptions:
    origin: str
    key: ApiKey
    tls: ssl.SSLContext = field(repr=False)
    max_connections: int

    def of_client(self) -> dict[str, Any]:
        """Arguments of httpx.Client and httpx.AsyncClient. HTTP/1.1: each poll has a connection of its own to lose."""
        return {
            "base_url": self.origin,
            "auth": _Bearer(self.key),
            "verify": self.tls,
            "headers": _HEADERS,
            "limits": httpx.Limits(
                max_connections=self.max_connections,
                max_keepalive_connections=min(20, self.max_connections),
                keepalive_expiry=_KEPT_ALIVE_SECONDS,
            ),
            # A proxy or certificate variable is no reason to trust someone, and a redirect would take the key along.
            "trust_env": False,
            "follow_redirects": False,
        }

    def of_request(self, send: Send) -> dict[str, Any]:
        """Arguments of `stream`. Waiting for a free connection may take the whole time: polls hold theirs long."""
        phase = min(send.phase, send.seconds)
        timeout = httpx.Timeout(
            connect=phase, write=phase, read=min(send.silence, send.seconds), pool=max(send.seconds, 0.001)
        )
        return {
            "method": send.method,
            "url": send.target,
            "content": send.body,
            "headers": send.headers,
            "timeout": timeout,
        }

    def settled(self, arriving: ResponseReader) -> Outcome:
        """The outcome, without our key in an error that something in between made of our own request."""
        outcome = arriving.outcome()
        if isinstance(outcome, Reply) and outcome.status >= 400:
            return Reply(outcome.status, outcome.headers, self.key.hide(outcome.body))
        return outcome

    def broken(self, error: BaseException) -> Broken:
        """Only the text goes on: the error itself drags frames with the Authorization header behind it."""
        text = str(error) or type(error).__name__
        reason = self.key.hide(text.encode("utf-8", "replace")).decode("utf-8", "replace")
        if _is_about_certificate(error):
            hint = "For a self-signed certificate give ca_file or tls_pin."
            return Broken(CertificateRefused, f"The certificate of {self.origin} is not trusted: {reason}. {hint}")
        if isinstance(error, httpx.PoolTimeout):
            reason = f"all {self.max_connections} connections were busy; see max_connections"
        return Broken(ConnectionFailed, f"No answer from {self.origin}: {reason}")


def _is_about_certificate(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return True
        error = error.__cause__ or error.__context__
    return False
