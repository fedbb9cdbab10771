"""What a device and the relay say to each other on a WebSocket (docs/protocol.md, section 6), whatever carries it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Protocol

import msgspec

from relay.registry.model import RegistryBusy
from relay.registry.port import DeviceRegistry
from relay.sockets.connections import Connection, Sockets
from relay.sockets.unauthenticated_limit import UnauthenticatedLimit
from sigil.protocol import messages, signed_bytes
from sigil.protocol.encoding import decode_base64, decode_hex, encode_base64, format_time
from sigil.protocol.errors import Problem
from sigil.protocol.keys import PublicKey
from sigil.protocol.relay_messages import Ack, AuthChallenge, AuthFailure, AuthResponse, AuthSuccess, Close, Pong

AUTH_SECONDS = 30
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Ack | Pong).decode


class Refused(Exception):
    """The connection is to end with this code; `error` is told before, where there is one."""

    def __init__(self, code: int, error: str | None = None) -> None:
        self.code = code
        self.error = error
        super().__init__(code)


class Wire(Protocol):
    """All three raise ConnectionError when the peer is gone."""

    async def send(self, text: str) -> None: ...

    async def close(self, code: int) -> None: ...

    async def receive(self) -> bytes:
        """The next text frame; Refused when it is binary, or larger than MAX_FRAME."""


class DeviceSession:
    """Collaborators: the registry, this worker's sockets, clock (Unix seconds), randomness."""

    def __init__(
        self,
        *,
        registry: DeviceRegistry,
        sockets: Sockets,
        clock: Callable[[], float],
        randomness: Callable[[int], bytes],
        auth_seconds: float = AUTH_SECONDS,
    ) -> None:
        self._registry = registry
        self._sockets = sockets
        self._clock = clock
        self._randomness = randomness
        self._auth_seconds = auth_seconds
        self._half_open = UnauthenticatedLimit()

    async def hold(self, wire: Wire, address: str, origin: str) -> None:
        """From the first frame to the end of an accepted connection; `origin` is what the device must have signed."""
        try:
            await self._serve(wire, address, origin)
        except Refused as refusal:
            await self._refuse(wire, refusal)
        except ConnectionError:
            return

    async def _refuse(self, wire: Wire, refusal: Refused) -> None:
        try:
            if refusal.error is not None:
                await wire.send(_encode(AuthFailure(refusal.error)).decode())
            await wire.close(refusal.code)
        except ConnectionError:
            return

    async def _serve(self, wire: Wire, address: str, origin: str) -> None:
        if self._sockets.draining:
            raise Refused(Close.SHUTDOWN)
        fingerprint = await self._authenticated(wire, address, origin)
        # The drain may have begun meanwhile, and has looked for sockets to close.
        if self._sockets.draining:
            raise Refused(Close.SHUTDOWN)
        with self._sockets.connected(fingerprint, wire) as connection:
            while True:
                await self._frame(connection, await wire.receive())

    async def _authenticated(self, wire: Wire, address: str, origin: str) -> bytes:
        if not self._half_open.enter(address):
            raise Refused(Close.TRY_AGAIN)
        try:
            async with asyncio.timeout(self._auth_seconds):
                challenge = self._randomness(32)
                expires_at = format_time(int(self._clock() + self._auth_seconds))
                await wire.send(_encode(AuthChallenge(encode_base64(challenge), expires_at)).decode())
                key = _proven(await wire.receive(), origin, challenge)
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
            if device is None:
                raise Refused(Close.AUTH_FAILED, "not_registered")
            if device.evicted is not None:
                raise Refused(Close.AUTH_FAILED, "token_evicted")
            await self._registry.mark_seen(fingerprint, int(self._clock()))
            if device.platform != "websocket":
                # So a device of APNs or FCM asks whether its registration still stands: it signed the question.
                raise Refused(Close.AUTH_FAILED, "other_platform")
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
