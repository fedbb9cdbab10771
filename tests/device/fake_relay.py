"""A relay's WebSocket that follows one script per connection, and can break every rule."""

from __future__ import annotations

import asyncio
import json
import ssl
import threading
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import httpx
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from sigil.device.relay import Event
from sigil.protocol import signed_bytes
from sigil.protocol.encoding.text import decode_base64, encode_base64
from sigil.protocol.keys import PublicKey
from tests.device.fake_server import as_json, problem

GUARD_SECONDS = 120
CHALLENGE = bytes(range(32))


class Peer:
    """One connection, from the relay's side."""

    def __init__(self, connection: ServerConnection, origin: str) -> None:
        self.connection, self.origin = connection, origin
        self.address: str = connection.remote_address[0]

    async def send(self, **members: Any) -> None:
        await self.connection.send(as_json(members).decode())

    async def raw(self, frame: str | bytes) -> None:
        await self.connection.send(frame)

    async def receive(self) -> dict[str, Any]:
        frame: dict[str, Any] = json.loads(await self.connection.recv())
        return frame

    async def authenticate(self) -> dict[str, Any]:
        await self.send(type="auth_challenge", challenge=encode_base64(CHALLENGE), expires_at="2027-01-15T08:00:30Z")
        return await self.receive()

    async def welcome(self) -> PublicKey:
        """Authenticate the device as a relay does; returns the device's key."""
        response = await self.authenticate()
        key = PublicKey.parse(decode_base64(response["device_public_key"], "$"))
        message = signed_bytes.relay_ws_auth(self.origin, CHALLENGE)
        assert key.verify(message, decode_base64(response["signature"], "$"))
        assert set(response) == {"type", "device_public_key", "signature"}
        await self.send(type="auth_success", fingerprint=key.fingerprint)
        return key

    async def reject_auth(self, error: str) -> None:
        await self.authenticate()
        await self.send(type="auth_failure", error=error)
        await self.connection.close(4003)

    async def push(self, payload: dict[str, Any], number: int = 1) -> None:
        await self.send(**payload, push_id=push_id(number))

    async def acknowledged(self, number: int = 1) -> None:
        assert await self.receive() == {"type": "ack", "push_id": push_id(number)}

    async def close(self, code: int) -> None:
        await self.connection.close(code)

    async def gone(self) -> int | None:
        """Waits until the device has closed the connection; returns the close code."""
        await self.connection.wait_closed()
        return self.connection.close_code


Script = Callable[[Peer], Awaitable[None]]


def push_id(number: int) -> str:
    return f"{number:032x}"


async def only_welcome(peer: Peer) -> None:
    await peer.welcome()
    await peer.gone()


class FakeRelay:
    """Each connection follows the next of `scripts`; further connections are authenticated and left open."""

    def __init__(self, *scripts: Script, tls: ssl.SSLContext | None = None) -> None:
        self.scripts, self.faults, self.peers = list(scripts), list[BaseException](), list[str]()
        self._tls = tls
        self._server: Server | None = None
        self.origin = ""

    async def __aenter__(self) -> FakeRelay:
        self._server = await serve(self._serve, "127.0.0.1", 0, ssl=self._tls, ping_interval=None, max_size=None)
        port = next(iter(self._server.sockets)).getsockname()[1]
        self.origin = f"{'https' if self._tls else 'http'}://127.0.0.1:{port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        await self._server.wait_closed()
        assert self.faults == []

    async def _serve(self, connection: ServerConnection) -> None:
        peer = Peer(connection, self.origin)
        self.peers.append(peer.address)
        script = self.scripts.pop(0) if self.scripts else only_welcome
        try:
            await script(peer)
        except ConnectionClosed:
            pass
        except BaseException as fault:
            self.faults.append(fault)
            raise


class Heard(list[Event]):
    """The events of a listener. `hold` makes the listener wait at every further event."""

    def __init__(self) -> None:
        super().__init__()
        self._more = asyncio.Condition()
        self._free = asyncio.Event()
        self._free.set()

    async def __call__(self, event: Event) -> None:
        self.append(event)
        async with self._more:
            self._more.notify_all()
        await self._free.wait()

    def hold(self) -> None:
        self._free.clear()

    def release(self) -> None:
        self._free.set()

    def of(self, kind: type[Any]) -> list[Any]:
        return [event for event in self if isinstance(event, kind)]

    async def until(self, kind: type[Any], count: int = 1) -> Any:
        """The last of `count` events of a kind."""
        async with asyncio.timeout(GUARD_SECONDS), self._more:
            await self._more.wait_for(lambda: len(self.of(kind)) >= count)
        return self.of(kind)[count - 1]


class Registry:
    """The HTTP of a relay, as a transport: registrations with verified signatures."""

    def __init__(self, origin: str) -> None:
        self.origin, self.registered = origin, list[dict[str, str]]()
        self.failures: list[tuple[int, bytes]] = []
        self.answer: dict[str, Any] = {}

    def transport(self) -> httpx.MockTransport:
        def answer(request: httpx.Request) -> httpx.Response:
            status, body = self.handle(request.method, request.url.path, request.content)
            return httpx.Response(status, stream=httpx.ByteStream(body))

        return httpx.MockTransport(answer)

    def handle(self, method: str, path: str, body: bytes) -> tuple[int, bytes]:
        if (method, path) == ("GET", "/devices/register/challenge"):
            return 200, as_json({"challenge_id": "ab" * 32, "nonce": encode_base64(b"n" * 32), "later": 1})
        if self.failures:
            return self.failures.pop(0)
        given = json.loads(body)
        key = PublicKey.parse(decode_base64(given["device_public_key"], "$"))
        if not key.verify(self._signed(path, given), decode_base64(given["signature"], "$")):
            return problem(401, "INVALID_SIGNATURE", "The signature was not accepted.")
        self.registered.append(given)
        members = {"fingerprint": key.fingerprint, "pictogram": [], "pictogram_speakable": ""}
        if path == "/devices/register":
            return 201, as_json(members | {"registered_at": "2027-01-15T08:00:00Z"} | self.answer)
        return 200, as_json(members | {"removed": len(self.registered) > 1} | self.answer)

    def _signed(self, path: str, given: dict[str, str]) -> bytes:
        assert given["challenge_id"] == "ab" * 32
        if path == "/devices/register":
            return signed_bytes.relay_register(self.origin, given["push_platform"], b"n" * 32, given["push_token"])
        assert path == "/devices/unregister"
        return signed_bytes.relay_unregister(self.origin, b"n" * 32)


@contextmanager
def relay_in_a_thread(*scripts: Script) -> Iterator[FakeRelay]:
    """For commands, which run their own event loop."""
    relay, started, stops = FakeRelay(*scripts), threading.Event(), list[Callable[[], object]]()

    async def serve_until_stopped() -> None:
        end = asyncio.Event()
        loop = asyncio.get_running_loop()
        stops.append(lambda: loop.call_soon_threadsafe(end.set))
        async with relay:
            started.set()
            await end.wait()

    with ThreadPoolExecutor(1) as pool:
        serving = pool.submit(asyncio.run, serve_until_stopped())
        assert started.wait(GUARD_SECONDS)
        try:
            yield relay
        finally:
            stops[0]()
            serving.result(GUARD_SECONDS)
