"""The session of a device on a WebSocket of any server (docs/protocol.md, section 6)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec

from relay.registry.model import RegistryBusy
from relay.registry.port import DeviceRegistry
from relay.sockets.authentication_limits import AuthenticationLimits
from relay.sockets.connection_limit import ConnectionLimit
from relay.sockets.connections import DeviceConnection, DeviceConnections, SocketConnection
from sigil.protocol import signed_bytes
from sigil.protocol.encoding.text import decode_base64, decode_hex, encode_base64, format_time
from sigil.protocol.errors import Problem, RateLimited
from sigil.protocol.keys import PublicKey
from sigil.protocol.messages import decoding
from sigil.protocol.messages.relay import Ack, AuthChallenge, AuthFailure, AuthResponse, AuthSuccess, Close, Pong

AUTH_TIMEOUT_SECONDS = 30
MAX_FRAMES = 1000
"""Frames of a device between two heartbeats: a pong, and an acknowledgement of each push."""
_OTHER_PLATFORM = "other_platform"
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Ack | Pong).decode


class CloseSession(Exception):
    """The connection is to be closed with this code, after an auth_failure frame with `error` if there is one."""

    def __init__(self, code: int, error: str | None = None) -> None:
        self.code = code
        self.error = error
        super().__init__(code)


class DeviceSession:
    """`sockets` are the authenticated connections of this worker; `clock` gives Unix seconds.

    `unauthenticated` and `authenticated` limit open sockets. A socket counts until its connection is closed: a peer
    that does not answer a close frame still holds the connection.
    """

    def __init__(
        self,
        *,
        registry: DeviceRegistry,
        sockets: DeviceConnections,
        clock: Callable[[], float],
        randomness: Callable[[int], bytes],
        limits: AuthenticationLimits,
        unauthenticated: ConnectionLimit,
        authenticated: ConnectionLimit,
        auth_timeout: float = AUTH_TIMEOUT_SECONDS,
    ) -> None:
        self._registry = registry
        self._sockets = sockets
        self._clock = clock
        self._randomness = randomness
        self._auth_timeout = auth_timeout
        self._limits = limits
        self._unauthenticated = unauthenticated
        self._authenticated = authenticated

    async def serve(self, socket: SocketConnection, address: str, origin: str) -> None:
        """Serve an accepted connection until it is closed. `origin` must be the one that the device signed."""
        self._unauthenticated.add(socket, address)
        try:
            await self._run(socket, address, origin)
        except CloseSession as closing:
            await self._close(socket, closing)
        except ConnectionError:
            return
        finally:
            self._unauthenticated.remove(socket)
            self._authenticated.remove(socket)

    async def _close(self, socket: SocketConnection, closing: CloseSession) -> None:
        try:
            if closing.error is not None:
                await socket.send(_encode(AuthFailure(closing.error)).decode())
            await socket.close(closing.code)
        except ConnectionError:
            return

    async def _run(self, socket: SocketConnection, address: str, origin: str) -> None:
        if self._sockets.draining:
            raise CloseSession(Close.SHUTDOWN)
        fingerprint = await self._authenticate(socket, address, origin)
        self._unauthenticated.remove(socket)
        self._authenticated.add(socket, address)
        # A drain that began meanwhile did not close this connection.
        if self._sockets.draining:
            raise CloseSession(Close.SHUTDOWN)
        with self._sockets.connected(fingerprint, socket) as connection:
            while True:
                await self._handle_frame(connection, await socket.receive())

    async def _authenticate(self, socket: SocketConnection, address: str, origin: str) -> bytes:
        try:
            async with asyncio.timeout(self._auth_timeout):
                challenge = self._randomness(32)
                expires_at = format_time(int(self._clock() + self._auth_timeout))
                await socket.send(_encode(AuthChallenge(encode_base64(challenge), expires_at)).decode())
                key = await self._registered_key(await socket.receive(), address, origin, challenge)
                await socket.send(_encode(AuthSuccess(key.fingerprint)).decode())
        except TimeoutError:
            raise CloseSession(Close.AUTH_TIMEOUT) from None
        return bytes.fromhex(key.fingerprint)

    async def _registered_key(self, text: bytes, address: str, origin: str, challenge: bytes) -> PublicKey:
        try:
            key = _verified_key(text, origin, challenge)
            fingerprint = bytes.fromhex(key.fingerprint)
            async with self._limits.turn(address, fingerprint):
                await self._require_registered(fingerprint)
        except RateLimited:
            raise CloseSession(Close.TRY_AGAIN) from None
        except CloseSession as closing:
            if closing.error == _OTHER_PLATFORM:
                self._limits.queried(address)
            elif closing.error is not None:
                self._limits.failed(address)
            raise
        self._limits.connected(fingerprint)
        return key

    async def _require_registered(self, fingerprint: bytes) -> None:
        try:
            device = await self._registry.device(fingerprint)
            if device is None:
                raise CloseSession(Close.AUTH_FAILED, "not_registered")
            if device.evicted is not None:
                raise CloseSession(Close.AUTH_FAILED, "token_evicted")
            await self._registry.mark_seen(fingerprint, int(self._clock()))
            if device.platform != "websocket":
                # A device of APNs or FCM connects to check its registration, and has just proved that it is alive.
                raise CloseSession(Close.AUTH_FAILED, _OTHER_PLATFORM)
        except RegistryBusy:
            raise CloseSession(Close.TRY_AGAIN) from None

    async def _handle_frame(self, connection: DeviceConnection, text: bytes) -> None:
        try:
            frame: Any = _decode(text)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise CloseSession(Close.BAD_FRAME) from None
        connection.missed_pongs = 0
        connection.frames += 1
        if connection.frames > MAX_FRAMES:
            raise CloseSession(Close.BAD_FRAME)
        if isinstance(frame, Ack):
            try:
                push_id = decode_hex(frame.push_id, "$.push_id", length=16)
            except Problem:
                raise CloseSession(Close.BAD_FRAME) from None
            await self._sockets.acknowledge(connection, push_id)


def _verified_key(text: bytes, origin: str, challenge: bytes) -> PublicKey:
    """The key that signed this connection's challenge; CloseSession."""
    try:
        given = decoding.decode_request(text, AuthResponse)
        key = PublicKey.parse(decode_base64(given.device_public_key, "$.device_public_key"))
        signature = decode_base64(given.signature, "$.signature")
    except Problem:
        raise CloseSession(Close.AUTH_FAILED, "invalid_response") from None
    if not key.verify(signed_bytes.relay_ws_auth(origin, challenge), signature):
        raise CloseSession(Close.AUTH_FAILED, "invalid_signature")
    return key
