"""A push service on loopback, in the process of the test: TLS with a certificate for the names of real services.

Its answer to a push follows from the path of the subscription, as a device could choose it:

    /ok            201
    /<status>      that status; with ?retry_after=N the header, with ?reason=R Apple's JSON, with ?location=U a redirect
    /huge          200 and a body that does not end
    /slow          no answer
    /early         resets the stream
"""

from __future__ import annotations

import asyncio
import datetime as dt
import ssl
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal, NamedTuple
from urllib.parse import parse_qsl, urlsplit

from cryptography import x509

from deploy.providers.credentials import _Authority
from deploy.providers.http.http1 import Http1, Request
from deploy.providers.http.http2 import Connection
from deploy.providers.http.listener import HOST
from deploy.providers.http.peer import Peer
from deploy.providers.http.stream import Response, Stream
from tests.support.live import DEADLINE

NAMES = ("fcm.googleapis.com", "updates.push.services.mozilla.com", "web.push.apple.com", "wns2-a.notify.windows.com")
FCM, MOZILLA, APPLE, WINDOWS = NAMES
Alpn = Literal["h2", "http/1.1"]


class Received(NamedTuple):
    path: str
    headers: dict[str, str]
    body: bytes


class PushService:
    """`ca` is the certificate to trust; `received` are the pushes in the order of their arrival."""

    def __init__(self, directory: Path, *, record: bool = True) -> None:
        self._record = record
        self.ca = directory / "push-ca.pem"
        self._certificate = directory / "push.pem"
        self.received: list[Received] = []
        self.connections: set[Connection] = set()
        self.http1_connections: set[Http1] = set()
        self.accepted = 0
        self._peers: list[Peer] = []
        self._servers: list[asyncio.Server] = []

    def create_certificates(self) -> None:
        authority, now = _Authority("Push services"), dt.datetime.now(dt.UTC)
        names = [x509.DNSName(name) for name in (*NAMES, "*.notify.windows.com", "localhost")]
        self.ca.write_bytes(authority.pem())
        self._certificate.write_bytes(authority.issue(names, now - dt.timedelta(days=1), now + dt.timedelta(days=2)))

    async def listen(self, alpn: Alpn | None = "h2") -> int:
        """The port. Without `alpn` the service negotiates none."""
        return await self.listen_with(self._http2 if alpn == "h2" else self._http1, alpn)

    async def listen_with(self, make: Callable[[], asyncio.BaseProtocol], alpn: Alpn | None) -> int:
        """The port, at which each connection has a protocol of the test, such as a hostile one."""
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        tls.load_cert_chain(self._certificate)
        if alpn is not None:
            tls.set_alpn_protocols([alpn])
        server = await asyncio.get_running_loop().create_server(make, HOST, 0, ssl=tls)
        self._servers.append(server)
        port: int = server.sockets[0].getsockname()[1]
        return port

    def close(self) -> None:
        for server in self._servers:
            server.close()
        for peer in self._peers:
            peer.abort()

    def _http2(self) -> Peer:
        close = self.connections.discard
        return self._track(
            Connection(self._handle, self._opened, close, None, 100, on_headers=lambda _: None, window=65_535)
        )

    def _http1(self) -> Peer:
        self.accepted += 1
        return self._track(Http1(self._handle_http1, self.http1_connections))

    def _track(self, peer: Peer) -> Peer:
        self._peers.append(peer)
        return peer

    def _opened(self, connection: Connection) -> None:
        self.accepted += 1
        self.connections.add(connection)

    def _handle(self, stream: Stream) -> None:
        if self._record:
            self.received.append(Received(stream.path, stream.headers, bytes(stream.body)))
        kind = urlsplit(stream.path).path.rsplit("/", 1)[1]
        if kind == "early":
            stream.connection.send_reset(stream, 2)
        elif kind != "slow":
            stream.respond(answer(stream.path))

    async def _handle_http1(self, request: Request) -> Response | None:
        self.received.append(Received(request.target, request.headers, request.body))
        kind = urlsplit(request.target).path.rsplit("/", 1)[1]
        if kind == "slow":
            await asyncio.Event().wait()
        return None if kind == "early" else answer(request.target)


def answer(target: str) -> Response:
    path, query = urlsplit(target).path, dict(parse_qsl(urlsplit(target).query))
    kind = path.rsplit("/", 1)[1]
    if kind == "huge":
        return Response(200, "huge", body=b"x" * 1_000_000)
    headers = []
    if "retry_after" in query:
        headers.append(("retry-after", query["retry_after"]))
    if "location" in query:
        headers.append(("location", query["location"]))
    body = f'{{"reason":"{query["reason"]}"}}'.encode() if "reason" in query else b""
    return Response(int(kind) if kind.isdigit() else 201, kind, tuple(headers), body)


@asynccontextmanager
async def push_service(directory: Path) -> AsyncIterator[PushService]:
    service = PushService(directory)
    service.create_certificates()
    try:
        yield service
    finally:
        service.close()


class PushServiceThread:
    """A push service with HTTP/2 in a thread of its own, for tests that block."""

    def __init__(self, directory: Path) -> None:
        self.service = PushService(directory)
        self.service.create_certificates()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self.port = asyncio.run_coroutine_threadsafe(self.service.listen(), self._loop).result(DEADLINE)

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(DEADLINE)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(DEADLINE)
        self._loop.close()

    async def _close(self) -> None:
        self.service.close()
        # Their transports close in later iterations.
        async with asyncio.timeout(DEADLINE):
            while self.service.connections:
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)
