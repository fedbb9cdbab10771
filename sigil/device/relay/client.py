"""A relay's client for devices: registration over HTTP, and connections to its WebSocket."""

from __future__ import annotations

import ssl
from types import TracebackType
from typing import TYPE_CHECKING, TypeVar

import httpx

from sigil.device.errors import AnswerUnusable, ServerRefused
from sigil.device.http.async_connection import AsyncHttp
from sigil.device.http.exchange import decode_response
from sigil.device.http.origin import relay_origin
from sigil.device.http.tls import TlsTrust, context
from sigil.device.relay.errors import PackageMissing
from sigil.device.software import Device
from sigil.protocol.encoding.text import decode_base64, encode_base64
from sigil.protocol.errors import InvalidRequest
from sigil.protocol.messages.relay import DeviceRegistered, DeviceUnregistered, Platform, RegistrationChallenge

if TYPE_CHECKING:
    from sigil.device.relay.socket import RelaySocket

T = TypeVar("T", DeviceRegistered, DeviceUnregistered)


class RelayClient:
    """One relay, for any number of devices. AddressRefused for plain http to a public address, unless `any_http`.

    Requests raise Unreachable, AnswerUnusable and ServerRefused. `local_address` is the address of this machine that
    connections come from. `socket_url` is for a relay whose WebSockets have their own port and no proxy in front
    (tests, load): the client connects to it, and still signs `url`.
    """

    def __init__(
        self,
        url: str,
        tls: TlsTrust | None = None,
        *,
        any_http: bool = False,
        local_address: str | None = None,
        socket_url: str | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.origin = relay_origin(url, any_http=any_http)
        self._socket_origin = relay_origin(socket_url, any_http=any_http) if socket_url else self.origin
        self._tls, self._local_address = tls or TlsTrust(), local_address
        self._http = AsyncHttp(self.origin, self._tls, local_address=local_address, transport=transport, peer="relay")
        self._context: ssl.SSLContext | None = None

    async def __aenter__(self) -> RelayClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        await self._http.aclose()

    async def register(
        self, device: Device, platform: Platform = "websocket", push_token: str = ""
    ) -> DeviceRegistered:
        """Register where pushes to the device go; replaces an earlier registration."""
        challenge_id, nonce = await self._challenge()
        signature = device.sign_relay_register(self.origin, platform, nonce, push_token)
        body = {
            "device_public_key": device.wire_key,
            "push_platform": platform,
            "push_token": push_token,
            "challenge_id": challenge_id,
            "signature": encode_base64(signature),
        }
        return self._check_device(
            device, decode_response(await self._post("/devices/register", body, 201), DeviceRegistered)
        )

    async def unregister(self, device: Device) -> DeviceUnregistered:
        challenge_id, nonce = await self._challenge()
        body = {
            "device_public_key": device.wire_key,
            "challenge_id": challenge_id,
            "signature": encode_base64(device.sign_relay_unregister(self.origin, nonce)),
        }
        return self._check_device(
            device, decode_response(await self._post("/devices/unregister", body, 200), DeviceUnregistered)
        )

    async def connect(self, device: Device) -> RelaySocket:
        """An authenticated connection; RelayLost, NotRegisteredAtRelay, RelayAuthRefused, PackageMissing."""
        try:
            from sigil.device.relay.socket import connect
        except ImportError as error:
            if (error.name or "").partition(".")[0] != "websockets":
                raise
            raise PackageMissing from error
        if self._context is None and self._socket_origin.startswith("https:"):
            self._context = context(self._socket_origin, self._tls)
        return await connect(
            self._socket_origin, device, self.origin, tls=self._context, local_address=self._local_address
        )

    async def _challenge(self) -> tuple[str, bytes]:
        challenge = decode_response(
            await self._http.request("GET", "/devices/register/challenge"), RegistrationChallenge
        )
        try:
            return challenge.challenge_id, decode_base64(challenge.nonce, "$.nonce", length=32)
        except InvalidRequest as error:
            raise AnswerUnusable(f"The relay's registration challenge is malformed. {error.message}") from error

    async def _post(self, path: str, body: dict[str, str], expected: int) -> bytes:
        try:
            return await self._http.request("POST", path, body, expected=expected)
        except ServerRefused as error:
            if error.code != "INVALID_SIGNATURE":
                raise
            # The signed bytes name the origin; usually the relay's RELAY_PUBLIC_URL is another one.
            raise ServerRefused(
                error.status, error.code, f"{error.message} Is {self.origin} the relay's RELAY_PUBLIC_URL?"
            ) from error

    def _check_device(self, device: Device, answer: T) -> T:
        if answer.fingerprint != device.fingerprint:
            raise AnswerUnusable("The relay responded about another device.")
        return answer
