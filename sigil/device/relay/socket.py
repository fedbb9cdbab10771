"""One WebSocket connection to a relay: authentication, then frames. The only module that needs `websockets`."""

from __future__ import annotations

import asyncio
import ssl
from types import TracebackType
from typing import Any

import msgspec
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as websocket_connect
from websockets.exceptions import ConnectionClosed, WebSocketException

from sigil.device.http.exchange import HEADERS, PHASE_SECONDS
from sigil.device.http.failures import certificate_fault, connection_fault
from sigil.device.relay.errors import NotRegisteredAtRelay, RelayAuthRefused, RelayLost, Replaced
from sigil.device.relay.frames import Frame, parse_frame
from sigil.device.software import Device
from sigil.protocol.encoding.text import decode_base64, encode_base64
from sigil.protocol.errors import InvalidRequest
from sigil.protocol.messages.decoding import decode
from sigil.protocol.messages.relay import (
    MAX_FRAME,
    Ack,
    AuthChallenge,
    AuthFailure,
    AuthResponse,
    AuthSuccess,
    Close,
    Pong,
)

AUTH_SECONDS = 30.0
CLOSE_SECONDS = 2.0
_encode = msgspec.json.Encoder().encode
_PONG = _encode(Pong()).decode()


class _WithoutRedirects(websocket_connect):
    def process_redirect(self, exc: Exception) -> Exception | str:
        """Not followed: the connection would go to another origin than the signed one."""
        return exc


class RelaySocket:
    """Raises RelayLost when the connection is closed, and Replaced when a newer one replaced it."""

    def __init__(self, connection: ClientConnection, *, send_seconds: float = PHASE_SECONDS) -> None:
        self._connection, self._send_seconds = connection, send_seconds

    async def __aenter__(self) -> RelaySocket:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self._connection.close()

    async def receive(self) -> Frame:
        text = await self.text()
        try:
            return parse_frame(text)
        except InvalidRequest as error:
            raise RelayLost("The relay sent a frame that is not of the documented form.") from error

    async def text(self) -> bytes:
        try:
            message = await self._connection.recv()
        except ConnectionClosed as error:
            raise _lost(error) from error
        if isinstance(message, bytes):
            raise RelayLost("The relay sent a binary frame.")
        return message.encode()

    async def acknowledge(self, push_id: str) -> None:
        await self.send(_encode(Ack(push_id)).decode())

    async def pong(self) -> None:
        await self.send(_PONG)

    async def send(self, text: str) -> None:
        try:
            # A peer that does not read would block this task, which also reads and detects silence.
            async with asyncio.timeout(self._send_seconds):
                await self._connection.send(text)
        except TimeoutError as error:
            raise RelayLost("The relay does not read from the connection.") from error
        except ConnectionClosed as error:
            raise _lost(error) from error


async def connect(
    address: str, device: Device, origin: str, *, tls: ssl.SSLContext | None, local_address: str | None
) -> RelaySocket:
    """A connection on which the relay has accepted the device's signature over `origin` and its challenge."""
    options: dict[str, Any] = {"ssl": tls} if address.startswith("https:") else {}
    if local_address is not None:
        options["local_addr"] = (local_address, 0)
    try:
        connection = await _WithoutRedirects(
            f"ws{address.removeprefix('http')}/ws",
            proxy=None,
            # No compression bombs, and no heartbeat in addition to the relay's own.
            compression=None,
            ping_interval=None,
            user_agent_header=HEADERS["User-Agent"],
            max_size=MAX_FRAME,
            open_timeout=PHASE_SECONDS,
            close_timeout=CLOSE_SECONDS,
            **options,
        )
    except (OSError, EOFError, WebSocketException) as error:
        raise RelayLost(certificate_fault(address, error) or connection_fault(address, error, "relay")) from error
    socket = RelaySocket(connection)
    try:
        async with asyncio.timeout(AUTH_SECONDS):
            await _authenticate(socket, origin, device)
    except TimeoutError as error:
        await connection.close()
        raise RelayLost("The relay did not finish the authentication in time.") from error
    except BaseException:
        await connection.close()
        raise
    return socket


async def _authenticate(socket: RelaySocket, origin: str, device: Device) -> None:
    try:
        message = decode(await socket.text(), AuthChallenge)
        challenge = decode_base64(message.challenge, "$.challenge", length=32)
        signature = encode_base64(device.sign_relay_auth(origin, challenge))
        await socket.send(_encode(AuthResponse(device.wire_key, signature)).decode())
        answer: AuthSuccess | AuthFailure = decode(await socket.text(), AuthSuccess | AuthFailure)  # type: ignore[arg-type]
    except InvalidRequest as error:
        raise RelayLost("The relay's authentication is not of the documented form.") from error
    except RelayLost as error:
        if error.close_code == Close.AUTH_FAILED:
            raise RelayAuthRefused from error
        raise
    if isinstance(answer, AuthFailure):
        raise _auth_error(answer.error, origin)
    if answer.fingerprint != device.fingerprint:
        raise RelayLost("The relay authenticated another device.")


def _auth_error(error: str, origin: str) -> NotRegisteredAtRelay | RelayAuthRefused:
    if error in {"not_registered", "token_evicted", "other_platform"}:
        return NotRegisteredAtRelay()
    return RelayAuthRefused(
        f"{RelayAuthRefused.summary} Its error is {error[:64]}. Is {origin} the relay's RELAY_PUBLIC_URL?"
    )


def _lost(error: ConnectionClosed) -> RelayLost | Replaced:
    closed = error.rcvd if error.rcvd_then_sent is not False else error.sent
    if closed is None:
        closed = error.sent
    if closed is None:
        return RelayLost("The connection to the relay broke.")
    if closed.code == Close.REPLACED:
        return Replaced()
    if closed.code == Close.SHUTDOWN:
        return RelayLost(f"The relay is stopping ({int(closed.code)}).", int(closed.code))
    reason = f": {closed.reason}" if closed.reason else ""
    return RelayLost(f"The connection to the relay was closed with {int(closed.code)}{reason}.", int(closed.code))
