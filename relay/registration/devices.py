"""The service of device registrations (docs/protocol.md, section 6)."""

from __future__ import annotations

from collections.abc import Callable

from relay.registration.capacity import RegistrationCapacity
from relay.registration.nonces import Nonces
from relay.registry.model import Device, Platform
from relay.registry.port import DeviceRegistry
from relay.registry.sealing import Sealer
from relay.web_push_settings import Settings as WebPushSettings
from sigil.protocol import signed_bytes, web_push
from sigil.protocol.encoding.pictogram import pictogram, speakable
from sigil.protocol.encoding.text import decode_base64, decode_hex, encode_base64, format_time
from sigil.protocol.errors import InvalidRequest, InvalidSignature
from sigil.protocol.keys import PublicKey
from sigil.protocol.messages import relay as messages


class Devices:
    """Collaborators: the registry and its capacity, the sealer of tokens, nonces, and a clock (Unix seconds).
    `webpush` is None where the relay sends no Web Push."""

    def __init__(
        self,
        *,
        registry: DeviceRegistry,
        sealer: Sealer,
        nonces: Nonces,
        capacity: RegistrationCapacity,
        clock: Callable[[], float],
        webpush: WebPushSettings | None = None,
    ) -> None:
        self._registry = registry
        self._webpush = webpush
        self._sealer = sealer
        self._nonces = nonces
        self._capacity = capacity
        self._clock = clock

    def challenge(self) -> messages.RegistrationChallenge:
        nonce = self._nonces.issue()
        key = None if self._webpush is None else self._webpush.keys[0].public_text
        return messages.RegistrationChallenge(nonce.hex(), encode_base64(nonce), key)

    async def register(self, origin: str, request: messages.RegisterDevice) -> messages.DeviceRegistered:
        """Checks form, then nonce, then signature; stores the device only after all three. The last write wins."""
        key = PublicKey.parse(decode_base64(request.device_public_key, "$.device_public_key"))
        if (request.push_platform == "websocket") != (request.push_token == ""):
            raise InvalidRequest(
                "push_token must be given, except for websocket, where it must be empty.", path="$.push_token"
            )
        if request.push_platform == "webpush":
            self._check_subscription(request.push_token)
        nonce, signature = self._decode_nonce(request.challenge_id), decode_base64(request.signature, "$.signature")
        until = self._nonces.check(nonce)
        message = signed_bytes.relay_register(origin, request.push_platform, nonce, request.push_token)
        await self._verify(key, message, signature, nonce, until)
        now = int(self._clock())
        fingerprint = bytes.fromhex(key.fingerprint)
        # A device that is registered may always replace its token.
        if self._capacity.full and await self._registry.device(fingerprint) is None:
            self._capacity.require()
        token = self._seal_token(request.push_token, fingerprint, request.push_platform)
        await self._registry.register(Device(fingerprint, key.wire, request.push_platform, token, now, seen_at=now))
        return messages.DeviceRegistered(
            fingerprint=key.fingerprint,
            pictogram=pictogram(key.fingerprint),
            pictogram_speakable=speakable(key.fingerprint),
            registered_at=format_time(now),
        )

    async def unregister(self, origin: str, request: messages.UnregisterDevice) -> messages.DeviceUnregistered:
        key = PublicKey.parse(decode_base64(request.device_public_key, "$.device_public_key"))
        nonce, signature = self._decode_nonce(request.challenge_id), decode_base64(request.signature, "$.signature")
        until = self._nonces.check(nonce)
        await self._verify(key, signed_bytes.relay_unregister(origin, nonce), signature, nonce, until)
        removed = await self._registry.unregister(bytes.fromhex(key.fingerprint))
        return messages.DeviceUnregistered(key.fingerprint, removed)

    def _check_subscription(self, push_token: str) -> None:
        """InvalidRequest that names what is wrong."""
        if self._webpush is None:
            raise InvalidRequest("This relay sends no Web Push: it has no RELAY_WEBPUSH_KEY.", path="$.push_platform")
        try:
            token = web_push.parse(push_token)
        except web_push.NotAWebPushToken as error:
            raise InvalidRequest(f"push_token: {error}.", path="$.push_token") from None
        if (refusal := self._webpush.refusal(token)) is not None:
            raise InvalidRequest(f"push_token: {_REFUSALS[refusal]}.", path="$.push_token")

    def _decode_nonce(self, challenge_id: str) -> bytes:
        return decode_hex(challenge_id, "$.challenge_id", length=32)

    async def _verify(self, key: PublicKey, message: bytes, signature: bytes, nonce: bytes, until: int) -> None:
        # The nonce is used only after the signature verified, so that no unauthenticated client can consume it.
        if not key.verify(message, signature) or not await self._registry.use_nonce(b"r" + nonce, until):
            raise InvalidSignature

    def _seal_token(self, token: str, fingerprint: bytes, platform: Platform) -> bytes:
        return self._sealer.seal("token", fingerprint, platform, token.encode())


_REFUSALS = {
    "host_not_listed": "the host of endpoint is no push service that this relay sends to (RELAY_WEBPUSH_HOSTS)",
    "key_not_of_relay": "key is not the webpush_key of this relay: subscribe again with the one of the challenge",
}
