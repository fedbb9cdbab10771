"""Google's interfaces over HTTP: the relay's only use of httpx, beside its own health check."""

from __future__ import annotations

import asyncio
import ssl
from urllib.parse import urlsplit

import httpx
import msgspec

from relay.credentials import FcmCredentials
from relay.transports.access_tokens import AccessToken, TokenRefused, TokenUnavailable
from relay.transports.connection_pool import ConnectionPool, Pace
from relay.transports.http2 import Answer, Http2
from relay.transports.provider_errors import word

_GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_PHASES = httpx.Timeout(connect=5, read=5, write=5, pool=5)
_TOKEN_SECONDS = 8.0
_MAX_TOKEN_ANSWER = 64 * 1024
# Of one connection and of its protocol version: not for HTTP/2.
_HOP_BY_HOP = frozenset({b"host", b"connection", b"keep-alive", b"transfer-encoding", b"accept-encoding"})


class LanesTransport(httpx.AsyncBaseTransport):
    """HTTP/2 for httpx over connections of ours: its own loses streams (docs/decisions/0011). Raises Lost.

    httpx's time-outs do not hold here: who sends cancels in time.
    """

    def __init__(self, lanes: ConnectionPool[Http2]) -> None:
        self._lanes = lanes

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        headers = [
            (b":method", request.method.encode()),
            (b":scheme", b"https"),
            (b":authority", request.url.netloc),
            (b":path", request.url.raw_path),
            *((lower, value) for name, value in request.headers.raw if (lower := name.lower()) not in _HOP_BY_HOP),
        ]
        body = await request.aread()
        answer: Answer = await self._lanes.use(lambda connection: connection.request(headers, body))
        kept = [(name, value) for name, value in answer.headers.items() if not name.startswith(b":")]
        return httpx.Response(answer.status, headers=kept, content=answer.body)


class _Token(msgspec.Struct):
    access_token: str
    expires_in: int


class _Fault(msgspec.Struct):
    error: str = ""


class FcmApi:
    """Messages go over lanes of ours, requests for tokens in httpx's own way."""

    def __init__(self, credentials: FcmCredentials, pace: Pace) -> None:
        self._token_url = credentials.token_url
        url = urlsplit(credentials.url)
        address = url.hostname or "", url.port or 443
        tls = ssl.create_default_context()
        tls.set_alpn_protocols(["h2"])

        async def connect() -> Http2:
            _, connection = await asyncio.get_running_loop().create_connection(Http2, *address, ssl=tls)
            return connection

        self.lanes: ConnectionPool[Http2] = ConnectionPool("fcm", connect, pace)
        self._messages = httpx.AsyncClient(
            transport=LanesTransport(self.lanes), trust_env=False, follow_redirects=False
        )
        self._tokens = httpx.AsyncClient(
            verify=ssl.create_default_context(),
            trust_env=False,
            follow_redirects=False,
            timeout=_PHASES,
            limits=httpx.Limits(max_connections=1, max_keepalive_connections=0),
            headers={"User-Agent": "sigil-relay", "Accept": "application/json", "Accept-Encoding": "identity"},
        )
        # Parsed once: for each request that takes httpx as long as all that h2 does.
        self._url = httpx.URL(f"{credentials.url}/v1/projects/{credentials.project_id}/messages:send")

    async def send(self, access_token: str, body: bytes) -> Answer:
        """Lost when no answer came."""
        headers = [
            (b"host", self._url.netloc),
            (b"content-type", b"application/json"),
            (b"user-agent", b"sigil-relay"),
            (b"authorization", b"Bearer " + access_token.encode()),
        ]
        answer = await self._messages.send(httpx.Request("POST", self._url, headers=headers, content=body))
        return Answer(answer.status_code, dict(answer.headers.raw), answer.content)

    async def token(self, assertion: str) -> AccessToken:
        """A new access token; TokenRefused, TokenUnavailable."""
        try:
            async with asyncio.timeout(_TOKEN_SECONDS):
                status, body = await self._ask_for_token(assertion)
        except (httpx.HTTPError, httpx.InvalidURL, OSError, TimeoutError) as error:
            raise TokenUnavailable(type(error).__name__) from error
        if status in {400, 401, 403}:
            raise TokenRefused(_fault(body, status))
        if status != 200:
            raise TokenUnavailable(f"http_{status}")
        try:
            given = msgspec.json.decode(body, type=_Token)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise TokenUnavailable("an answer of another form") from None
        # It becomes a header.
        if not (given.access_token.isascii() and given.access_token.isprintable()) or given.expires_in <= 0:
            raise TokenUnavailable("an answer of another form")
        return AccessToken(given.access_token, float(given.expires_in))

    async def _ask_for_token(self, assertion: str) -> tuple[int, bytes]:
        form = {"grant_type": _GRANT, "assertion": assertion}
        async with self._tokens.stream("POST", self._token_url, data=form) as answer:
            read = bytearray()
            async for part in answer.aiter_raw():
                read += part
                if len(read) > _MAX_TOKEN_ANSWER:
                    raise TokenUnavailable("an answer that does not end")
            return answer.status_code, bytes(read)

    async def close(self) -> None:
        await self._messages.aclose()
        await self._tokens.aclose()
        await self.lanes.close()


def _fault(body: bytes, status: int) -> str:
    try:
        said = msgspec.json.decode(body, type=_Fault).error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        said = ""
    return word(said, str(status))
