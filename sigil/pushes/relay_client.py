"""The HTTP client of the relay: signed requests on keep-alive connections (docs/protocol.md, section 6)."""

from __future__ import annotations

import asyncio
import calendar
import os
import socket
import ssl
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import httpx
import msgspec

from sigil.protocol import signed_bytes
from sigil.protocol.encoding.text import encode_base64
from sigil.protocol.identity import ServerIdentity
from sigil.protocol.messages.relay import (
    HistoryRequest,
    OutcomesRequest,
    PushHistory,
    PushRequest,
    PushResult,
    PushResults,
    RegisterServer,
    ServerRegistered,
    WantedPush,
)
from sigil.protocol.messages.server import ErrorAnswer
from sigil.pushes.service import NoHistory, NoHistoryReason, RelayRejected, RelayUnavailable

T = TypeVar("T")

TOTAL_SECONDS = 12.0
"""For a call with its registration and one repeat: well within the lease of a claim."""
_PHASES = httpx.Timeout(connect=3, write=5, read=8, pool=8)
_CONNECTIONS = httpx.Limits(max_connections=16, max_keepalive_connections=16, keepalive_expiry=20)
MAX_RESPONSE = 512 * 1024
"""Bytes that are read of a response; 200 results take less than a tenth."""
_REJECTIONS = frozenset({400, 413, 415})
# httpx wraps httpcore, which wraps anyio, which wraps the error of the socket.
_MAX_CAUSES = 8
OnResponse = Callable[[float, int | None], object]
"""Gets the seconds by which the relay's clock is ahead, and the end of its certificate (Unix seconds; None without
TLS)."""
_NO_PUSH = "sigil-doctor"
_NO_HISTORY: dict[tuple[int, str], NoHistoryReason] = {
    (401, ""): "untrusted",
    (404, "DEVICE_UNKNOWN"): "unknown",
    # A relay from before `POST /push/history` has no such path.
    (404, "NOT_FOUND"): "older",
    (409, "FINGERPRINT_AMBIGUOUS"): "ambiguous",
}
_encode = msgspec.json.Encoder().encode


class RelayClient:
    """`sigil.pushes.service.Relay` at `url`. `clock` gives Unix seconds; `on_response` gets what each response shows
    about the relay; `transport` is for tests.
    """

    def __init__(
        self,
        url: str,
        *,
        identity: ServerIdentity,
        server_name: str,
        clock: Callable[[], float],
        randomness: Callable[[int], bytes],
        on_response: OnResponse = lambda ahead, certificate_ends: None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._identity = identity
        self._clock = clock
        self._randomness = randomness
        self._on_response = on_response
        self._registration = RegisterServer(identity.server_id, identity.server_public_keys["ES256"], server_name)
        self._registering = asyncio.Lock()
        self._registrations = 0
        self._http = httpx.AsyncClient(
            base_url=url,
            # Without TLS there is nothing to verify, and reading the system's certificates is slow.
            verify=ssl.create_default_context() if url.startswith("https:") else False,
            trust_env=False,
            follow_redirects=False,
            timeout=_PHASES,
            limits=_CONNECTIONS,
            headers={"User-Agent": "sigil", "Accept": "application/json", "Accept-Encoding": "identity"},
            transport=transport,
        )

    async def register(self) -> None:
        async with _total_timeout():
            await self._register()

    async def push(self, pushes: Sequence[WantedPush], traceparent: str | None = None) -> list[PushResult]:
        return await self._results("/push", PushRequest(list(pushes)), len(pushes), traceparent)

    async def outcomes(self, push_keys: Sequence[str]) -> list[PushResult]:
        return await self._results("/push/outcomes", OutcomesRequest(list(push_keys)), len(push_keys))

    async def is_trusted(self) -> bool:
        """Whether the relay accepts this server's signature; RelayUnavailable. It never registers: a relay that trusts
        the first server would trust a command. No push has the key that it queries.
        """
        async with _total_timeout():
            status, content = await self._post("/push/outcomes", _encode(OutcomesRequest([_NO_PUSH])))
        if status == 401:
            return False
        _read(status, content, PushResults)
        return True

    async def history(self, fingerprint: str) -> PushHistory:
        """Of a device, by its fingerprint or a beginning of it. It never registers. NoHistory, RelayUnavailable."""
        async with _total_timeout():
            status, content = await self._post("/push/history", _encode(HistoryRequest(fingerprint)))
        if reason := _NO_HISTORY.get((status, _code(content) if status in {404, 409} else "")):
            raise NoHistory(reason)
        return _read(status, content, PushHistory)

    async def close(self) -> None:
        await self._http.aclose()

    async def _results(self, path: str, message: Any, count: int, traceparent: str | None = None) -> list[PushResult]:
        body = _encode(message)
        async with _total_timeout():
            known = self._registrations
            status, content = await self._post(path, body, traceparent)
            if status == 401:
                # A relay with a new database, or one that does not know this server yet.
                await self._register(known)
                status, content = await self._post(path, body, traceparent)
        results = _read(status, content, PushResults).results
        if len(results) != count:
            raise RelayUnavailable("an answer of another length")
        return results

    async def _register(self, known: int | None = None) -> None:
        """Register, unless there are more than `known` registrations by now: many requests may get a 401 at once."""
        async with self._registering:
            if known is None or known == self._registrations:
                status, content = await self._post("/servers/register", _encode(self._registration))
                try:
                    _read(status, content, ServerRegistered)
                except RelayRejected as rejection:
                    raise RelayUnavailable(str(rejection)) from None
                self._registrations += 1

    async def _post(self, path: str, body: bytes, traceparent: str | None = None) -> tuple[int, bytes]:
        """The status and the body. Repeats the request once when a keep-alive connection turns out to be closed."""
        try:
            return await self._post_once(path, body, traceparent)
        except (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError):
            # Harmless: the relay recognises a push by its key. Signed again: it also recognises a nonce.
            return await self._post_once(path, body, traceparent)

    async def _post_once(self, path: str, body: bytes, traceparent: str | None) -> tuple[int, bytes]:
        request = self._http.build_request("POST", path, content=body)
        if traceparent is not None:
            request.headers["traceparent"] = traceparent
        # The signature covers the target as sent: the path of RELAY_URL, then `path`.
        request.headers.update(self._headers(request.url.raw_path.decode(), body))
        sent = self._clock()
        response = await self._http.send(request, stream=True)
        try:
            self._report(response, sent)
            content = bytearray()
            async for part in response.aiter_raw():
                content += part
                if len(content) > MAX_RESPONSE:
                    raise RelayUnavailable("an answer that does not end")
            return response.status_code, bytes(content)
        finally:
            await response.aclose()

    def _report(self, response: httpx.Response, sent: float) -> None:
        written = time_of(response.headers.get("Date", ""))
        if written is not None:
            ahead = written - (sent + self._clock()) / 2
            self._on_response(ahead, _certificate_end(response))

    def _headers(self, target: str, body: bytes) -> dict[str, str]:
        timestamp, nonce = str(int(self._clock())), self._randomness(16).hex()
        message = signed_bytes.relay_request("POST", target, timestamp, nonce, body)
        return {
            "Content-Type": "application/json",
            "X-Sigil-Server-Id": self._identity.server_id,
            "X-Sigil-Timestamp": timestamp,
            "X-Sigil-Nonce": nonce,
            "X-Sigil-Request-Signature": encode_base64(self._identity.keys["ES256"].sign(message)),
        }


@asynccontextmanager
async def _total_timeout() -> AsyncIterator[None]:
    """Timeouts and network errors as RelayUnavailable, with a short reason: the text of an exception may quote
    anything."""
    try:
        async with asyncio.timeout(TOTAL_SECONDS):
            yield
    except (TimeoutError, httpx.TimeoutException):
        raise RelayUnavailable("no answer in time") from None
    except (httpx.HTTPError, OSError) as error:
        raise RelayUnavailable(_reason(error)) from error


def _reason(error: BaseException) -> str:
    causes: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and len(causes) < _MAX_CAUSES:
        causes.append(cause)
        cause = cause.__cause__ or cause.__context__
    for cause in causes:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"a certificate that is not trusted ({cause.verify_message})"
        if isinstance(cause, ssl.SSLError):
            return "no TLS"
        if isinstance(cause, socket.gaierror):
            return "a name that is not known"
    if not isinstance(error, httpx.ConnectError | OSError):
        return f"closed without an answer ({type(error).__name__})"
    number = next((cause.errno for cause in causes if isinstance(cause, OSError) and cause.errno), None)
    return f"no connection ({os.strerror(number) if number else type(error).__name__})"


def time_of(date: str) -> float | None:
    """The middle of the second that a Date header names (RFC 9110, 6.6.1), in Unix seconds."""
    try:
        return calendar.timegm(time.strptime(date, "%a, %d %b %Y %H:%M:%S GMT")) + 0.5
    except ValueError:
        return None


def _certificate_end(response: httpx.Response) -> int | None:
    stream = response.extensions.get("network_stream")
    tls = stream.get_extra_info("ssl_object") if stream else None
    certificate = tls.getpeercert() if tls else None
    try:
        return int(ssl.cert_time_to_seconds(certificate["notAfter"])) if certificate else None
    except (KeyError, ValueError):
        return None


def _read(status: int, content: bytes, kind: type[T]) -> T:
    if status in _REJECTIONS:
        raise RelayRejected(str(status))
    if status != 200:
        raise RelayUnavailable(str(status))
    try:
        return msgspec.json.decode(content, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise RelayUnavailable("an answer of another form") from None


def _code(content: bytes) -> str:
    """The code of an error response, or nothing."""
    try:
        return msgspec.json.decode(content, type=ErrorAnswer).error.code
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ""
