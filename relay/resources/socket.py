"""`GET /ws`: a device says who it is, and from then on takes pushes (docs/protocol.md, section 6)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import falcon.asgi
import msgspec
from falcon.asgi import Request, WebSocket

from relay.half_open import HalfOpen
from relay.origins import Origins
from relay.registry import Registry, RegistryBusy
from relay.sockets import Connection, Sockets
from sigil.protocol import messages, signed_bytes
from sigil.protocol.encoding import decode_base64, decode_hex, encode_base64, format_time
from sigil.protocol.errors import Problem
from sigil.protocol.keys import PublicKey
from sigil.protocol.relay_messages import (
    MAX_FRAME,
    Ack,
    AuthChallenge,
    AuthFailure,
    AuthResponse,
    AuthSuccess,
    Close,
    Pong,
)
from sigil.serving.proxies import ClientAddresses

AUTH_SECONDS = 30
_encode = msgspec.json.Encoder().encode


class Refused(Exception):
    """The connection is to end with this code; `error` is told before, where there is one."""

    def __init__(self, code: int, error: str | None = None) -> None:
        self.code = code
        self.error = error
        super().__init__(code)


class _Wire:
    """Falcon's WebSocket; Granian says RuntimeError when the peer has vanished, Falcon OSError."""

    def __init__(self, socket: WebSocket) -> None:
        self._socket = socket
        self._receiving: asyncio.Future[str] | None = None
        self._closing: asyncio.Event | None = None

    async def send(self, text: str) -> None:
        try:
            await self._socket.send_text(text)
        except (RuntimeError, OSError, falcon.WebSocketDisconnected) as error:
            raise ConnectionError from error

    async def close(self, code: int) -> None:
        self._closing = self._closing or asyncio.Event()
        # Granian's close waits for a receive that is under way, which waits for the peer.
        if self._receiving is not None and not self._receiving.done():
            self._receiving.cancel()
            await asyncio.wait([self._receiving])
        try:
            await self._socket.close(code)
        except (RuntimeError, OSError, falcon.WebSocketDisconnected) as error:
            raise ConnectionError from error
        finally:
            self._closing.set()

    async def receive(self) -> bytes:
        """The next text frame, which is not too large; Refused, or ConnectionError."""
        self._receiving = asyncio.ensure_future(self._socket.receive_text())
        try:
            text = (await self._receiving).encode()
        except asyncio.CancelledError:
            if self._closing is None:
                raise
            # Whose handler returns is closed with 1000, before the code that is on its way.
            await self._closing.wait()
            raise ConnectionError from None
        except falcon.PayloadTypeError:
            raise Refused(Close.UNSUPPORTED) from None
        except (RuntimeError, OSError, falcon.WebSocketDisconnected) as error:
            raise ConnectionError from error
        if len(text) > MAX_FRAME:
            raise Refused(Close.TOO_LARGE)
        return text


class SocketOfDevice:
    """Collaborators: the registry, this worker's sockets, the relay's origin, client addresses, clock, randomness."""

    def __init__(
        self,
        *,
        registry: Registry,
        sockets: Sockets,
        origins: Origins,
        addresses: ClientAddresses,
        clock: Callable[[], float],
        randomness: Callable[[int], bytes],
        auth_seconds: float = AUTH_SECONDS,
    ) -> None:
        self._registry = registry
        self._sockets = sockets
        self._origins = origins
        self._addresses = addresses
        self._clock = clock
        self._randomness = randomness
        self._auth_seconds = auth_seconds
        self._half_open = HalfOpen()

    async def on_websocket(self, req: Request, socket: WebSocket) -> None:
        # Always: Granian hangs on a socket that is closed before it was accepted.
        await socket.accept()
        wire = _Wire(socket)
        try:
            await self._serve(wire, req)
        except Refused as refusal:
            await self._refuse(wire, refusal)
        except ConnectionError:
            return

    async def _refuse(self, wire: _Wire, refusal: Refused) -> None:
        try:
            if refusal.error is not None:
                await wire.send(_encode(AuthFailure(refusal.error)).decode())
            await wire.close(refusal.code)
        except ConnectionError:
            return

    async def _serve(self, wire: _Wire, req: Request) -> None:
        if self._sockets.draining:
            raise Refused(Close.SHUTDOWN)
        fingerprint = await self._authenticated(wire, req)
        with self._sockets.connected(fingerprint, wire) as connection:
            while True:
                await self._frame(connection, await wire.receive())

    async def _authenticated(self, wire: _Wire, req: Request) -> bytes:
        address = self._addresses.of(req)
        if not self._half_open.enter(address):
            raise Refused(Close.TRY_AGAIN)
        try:
            async with asyncio.timeout(self._auth_seconds):
                challenge = self._randomness(32)
                expires_at = format_time(int(self._clock() + self._auth_seconds))
                await wire.send(_encode(AuthChallenge(encode_base64(challenge), expires_at)).decode())
                key = _proven(await wire.receive(), self._origins.of(req.scope), challenge)
                await self._require_registered(key)
                await wire.send(_encode(AuthSuccess(key.fingerprint)).decode())
        except TimeoutError:
            raise Refused(Close.AUTH_TIMEOUT) from None
        finally:
            self._half_open.leave(address)
        return bytes.fromhex(key.fingerprint)

    async def _require_registered(self, key: PublicKey) -> None:
        fingerprint = bytes.fromhex(key.fingerprint)
        try:
            device = await self._registry.device(fingerprint)
            if device is None or device.evicted is not None or device.platform != "websocket":
                raise Refused(Close.AUTH_FAILED, "not_registered")
            await self._registry.saw(fingerprint, int(self._clock()))
        except RegistryBusy:
            raise Refused(Close.TRY_AGAIN) from None

    async def _frame(self, connection: Connection, text: bytes) -> None:
        try:
            frame: Any = _decode(text)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise Refused(Close.BAD_FRAME) from None
        connection.silent = 0
        if isinstance(frame, Ack):
            try:
                push_id = decode_hex(frame.push_id, "$.push_id", length=16)
            except Problem:
                raise Refused(Close.BAD_FRAME) from None
            await self._sockets.acknowledged(connection, push_id)


_decode = msgspec.json.Decoder(Ack | Pong).decode


def _proven(text: bytes, origin: str, challenge: bytes) -> PublicKey:
    """The key that signed this connection's challenge; Refused, the same for every reason."""
    try:
        given = messages.decode_request(text, AuthResponse)
        key = PublicKey.parse(decode_base64(given.device_public_key, "$.device_public_key"))
        signature = decode_base64(given.signature, "$.signature")
    except Problem:
        raise Refused(Close.AUTH_FAILED, "invalid_response") from None
    if not key.verify(signed_bytes.relay_ws_auth(origin, challenge), signature):
        raise Refused(Close.AUTH_FAILED, "invalid_signature")
    return key
