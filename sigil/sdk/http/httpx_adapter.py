"""The part of an HTTP exchange that both clients share: how httpx is set up, and what its failures mean."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any

import httpx

from sigil.sdk.api_key import ApiKey
from sigil.sdk.errors import CertificateRefused, ConnectionFailed
from sigil.sdk.http.sans_io import Failure, Outcome, Response, ResponseReader, Send

_HEADERS = {
    "Accept": "application/json",
    # Uncompressed, and read in chunks: the size limit would not hold for the unpacked content of a small body.
    "Accept-Encoding": "identity",
    "User-Agent": "sigil-sdk",
}
_KEPT_ALIVE_SECONDS = 15.0


class _Bearer(httpx.Auth):
    """Adds the key at the last moment, so that no variable of a caller holds a header with it."""

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

    def client_options(self) -> dict[str, Any]:
        """Arguments of httpx.Client and httpx.AsyncClient. HTTP/1.1: each poll loses at most its own connection."""
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
            # The environment's proxy and certificate variables are not trusted. A redirect would carry the key along.
            "trust_env": False,
            "follow_redirects": False,
        }

    def stream_options(self, send: Send) -> dict[str, Any]:
        """Arguments of `stream`. The wait for a free connection may take all the time: polls hold theirs for long."""
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

    def outcome_of(self, reader: ResponseReader) -> Outcome:
        """The outcome. The API key is masked in an error body: a broken proxy may echo our own request."""
        outcome = reader.outcome()
        if isinstance(outcome, Response) and outcome.status >= 400:
            return Response(outcome.status, outcome.headers, self.key.hide(outcome.body))
        return outcome

    def failure_of(self, error: Exception) -> Failure:
        """Keeps only the text: the error itself refers to frames that hold the Authorization header.

        Any error is accepted. Besides httpx's own, a host name that IDNA cannot encode is a UnicodeError, TLS sockets
        raise OSError, and a connection that another thread closed may raise ValueError or RuntimeError.
        """
        known = isinstance(error, httpx.HTTPError | httpx.StreamError | OSError)
        text = (str(error) if known else f"{type(error).__name__}: {error}") or type(error).__name__
        reason = self.key.hide(text.encode("utf-8", "replace")).decode("utf-8", "replace")
        if _has_cause(error, ssl.SSLCertVerificationError):
            hint = "For a self-signed certificate pass ca_file or tls_pin, or set SIGIL_CA_FILE."
            return Failure(CertificateRefused, f"The certificate of {self.origin} is not trusted: {reason}. {hint}")
        if isinstance(error, httpx.PoolTimeout):
            reason = f"all connections (max_connections={self.max_connections}) were busy; raise max_connections"
        if isinstance(error, httpx.RemoteProtocolError | httpx.ReadError) and self.origin.startswith("http:"):
            reason = "it did not answer over plain http; if the server uses TLS, write https:// in place of http://"
        if _has_cause(error, ConnectionRefusedError):
            reason = "nothing listens there; check the address and the port, and that the server runs"
        elif _has_cause(error, socket.gaierror):
            reason = "its name is not known; check the address"
        return Failure(ConnectionFailed, f"No response from {self.origin}: {reason}")


def _has_cause(error: BaseException | None, kind: type[BaseException]) -> bool:
    while error is not None:
        # Of a name with several addresses, one error for each.
        inner = error.exceptions if isinstance(error, BaseExceptionGroup) else ()
        if isinstance(error, kind) or any(isinstance(each, kind) for each in inner):
            return True
        error = error.__cause__ or error.__context__
    return False
