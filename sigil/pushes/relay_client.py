"""The relay over HTTP: signed requests on kept connections (docs/protocol.md, section 6)."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import httpx
import msgspec

from sigil.protocol import signed_bytes
from sigil.protocol.encoding import encode_base64
from sigil.protocol.identity import ServerIdentity
from sigil.protocol.relay_messages import (
    OutcomesRequest,
    PushRequest,
    PushResult,
    PushResults,
    RegisterServer,
    ServerRegistered,
    WantedPush,
)
from sigil.pushes.service import RelayRejected, RelayUnavailable

T = TypeVar("T")

TOTAL_SECONDS = 12.0
"""For a call with all that belongs to it (registering, one repeat): well within the lease of a claim."""
_PHASES = httpx.Timeout(connect=3, write=5, read=8, pool=8)
_CONNECTIONS = httpx.Limits(max_connections=16, max_keepalive_connections=16, keepalive_expiry=20)
MAX_ANSWER = 512 * 1024
"""Bytes that are read of an answer; 200 results take less than a tenth."""
_REFUSALS = frozenset({400, 413, 415})
_encode = msgspec.json.Encoder().encode


class RelayClient:
    """`sigil.pushes.service.Relay` at `url`. `clock` gives Unix seconds; `transport` is for tests."""

    def __init__(
        self,
        url: str,
        *,
        identity: ServerIdentity,
        server_name: str,
        clock: Callable[[], float],
        randomness: Callable[[int], bytes],
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._identity = identity
        self._clock = clock
        self._randomness = randomness
        self._greeting = RegisterServer(identity.server_id, identity.server_public_keys["ES256"], server_name)
        self._registering = asyncio.Lock()
        self._registrations = 0
        self._http = httpx.AsyncClient(
            base_url=url,
            # Without TLS there is nothing to verify, and reading the system's certificates takes its time.
            verify=ssl.create_default_context() if url.startswith("https:") else False,
            trust_env=False,
            follow_redirects=False,
            timeout=_PHASES,
            limits=_CONNECTIONS,
            headers={"User-Agent": "sigil", "Accept": "application/json", "Accept-Encoding": "identity"},
            transport=transport,
        )

    async def register(self) -> None:
        async with _answered_in_time():
            await self._register()

    async def push(self, pushes: Sequence[WantedPush]) -> list[PushResult]:
        return await self._results("/push", PushRequest(list(pushes)), len(pushes))

    async def outcomes(self, push_keys: Sequence[str]) -> list[PushResult]:
        return await self._results("/push/outcomes", OutcomesRequest(list(push_keys)), len(push_keys))

    async def close(self) -> None:
        await self._http.aclose()

    async def _results(self, path: str, message: Any, count: int) -> list[PushResult]:
        body = _encode(message)
        async with _answered_in_time():
            known = self._registrations
            status, answer = await self._post(path, body)
            if status == 401:
                # A relay with a new database, or one that was told of this server only now.
                await self._register(known)
                status, answer = await self._post(path, body)
        results = _read(status, answer, PushResults).results
        if len(results) != count:
            raise RelayUnavailable("an answer of another length")
        return results

    async def _register(self, known: int | None = None) -> None:
        """Unless it was done since there were `known` registrations: many requests may hear of it at once."""
        async with self._registering:
            if known is None or known == self._registrations:
                status, answer = await self._post("/servers/register", _encode(self._greeting))
                try:
                    _read(status, answer, ServerRegistered)
                except RelayRejected as refusal:
                    raise RelayUnavailable(str(refusal)) from None
                self._registrations += 1

    async def _post(self, path: str, body: bytes) -> tuple[int, bytes]:
        """The status and the body, repeated once when a kept connection turns out to be closed; RelayAway."""
        try:
            return await self._post_once(path, body)
        except (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError):
            # Harmless, since the relay knows a push by its key; and signed anew, since it knows a nonce too.
            return await self._post_once(path, body)

    async def _post_once(self, path: str, body: bytes) -> tuple[int, bytes]:
        request = self._http.build_request("POST", path, content=body)
        # What is signed is the target as it is sent, the path of RELAY_URL before ours.
        request.headers.update(self._headers(request.url.raw_path.decode(), body))
        answer = await self._http.send(request, stream=True)
        try:
            read = bytearray()
            async for part in answer.aiter_raw():
                read += part
                if len(read) > MAX_ANSWER:
                    raise RelayUnavailable("an answer that does not end")
            return answer.status_code, bytes(read)
        finally:
            await answer.aclose()

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
async def _answered_in_time() -> AsyncIterator[None]:
    """Whatever keeps a call from its answer, as RelayAway. By its type: the text of an exception may quote anything."""
    try:
        async with asyncio.timeout(TOTAL_SECONDS):
            yield
    except TimeoutError:
        raise RelayUnavailable("no answer in time") from None
    except (httpx.HTTPError, OSError) as error:
        raise RelayUnavailable(type(error).__name__) from error


def _read(status: int, answer: bytes, kind: type[T]) -> T:
    if status in _REFUSALS:
        raise RelayRejected(str(status))
    if status != 200:
        raise RelayUnavailable(str(status))
    try:
        return msgspec.json.decode(answer, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise RelayUnavailable("an answer of another form") from None
