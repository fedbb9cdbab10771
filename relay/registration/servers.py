"""The service of servers: whose signed requests are taken (docs/protocol.md, section 6)."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from relay.registry.model import Server
from relay.registry.port import ServerRegistry
from sigil.protocol import relay_messages as messages
from sigil.protocol import signed_bytes
from sigil.protocol.encoding import decode_base64, decode_hex
from sigil.protocol.errors import FingerprintMismatch, InvalidPublicKey, InvalidRequest, Unauthorized
from sigil.protocol.keys import PublicKey

SKEW_SECONDS = 60
# A server that lost its trust is refused by every worker after so long.
_REMEMBERED_SECONDS = 10.0
_MAX_REMEMBERED = 1024
_NONCE = re.compile(r"[0-9a-f]{32}\Z")
_TIMESTAMP = re.compile(r"[0-9]{1,11}\Z")


@dataclass(frozen=True)
class SignedRequest:
    """A request as it was signed; the four headers are what came, or empty."""

    method: str
    target: str
    body: bytes
    server_id: str
    timestamp: str
    nonce: str
    signature: str


@dataclass(frozen=True)
class Trust:
    """Who may register: ids from the settings, an operator's in the registry, and the first to come if wanted."""

    listed: frozenset[bytes] = frozenset()
    on_first_use: bool = False


class Servers:
    """Collaborators: the registry, whom to trust, and a clock (Unix seconds)."""

    def __init__(self, *, registry: ServerRegistry, trust: Trust, clock: Callable[[], float]) -> None:
        self._registry = registry
        self._trust = trust
        self._clock = clock
        self._known: dict[bytes, tuple[PublicKey, float]] = {}

    async def authenticate(self, request: SignedRequest) -> bytes:
        """The server_id of a known server. Unauthorized, the same for every reason; the nonce is spent last."""
        try:
            server_id = decode_hex(request.server_id, "X-Sigil-Server-Id", length=32)
        except InvalidRequest:
            raise _refusal() from None
        key = await self._key(server_id)
        if key is None:
            raise _refusal()
        await self._accept(key, server_id, request)
        return server_id

    async def register(self, given: messages.RegisterServer, request: SignedRequest) -> messages.ServerRegistered:
        """A server that is trusted shows its key; the request is signed with it."""
        key = PublicKey.parse(decode_base64(given.server_public_key, "$.server_public_key"))
        if key.suite != "ES256":
            raise InvalidPublicKey("server_public_key is the server's ES256 key.")
        if key.fingerprint != given.server_id or given.server_id != request.server_id:
            raise FingerprintMismatch("server_id is the fingerprint of server_public_key, in the header too.")
        server_id = bytes.fromhex(key.fingerprint)
        known = await self._trusted(server_id)
        may = known is not None or server_id in self._trust.listed
        listed = server_id in self._trust.listed and (known is None or known.listed)
        server = Server(server_id, key.wire, given.server_name, int(self._clock()), listed)
        if not may and not self._trust.on_first_use:
            raise _refusal()
        await self._accept(key, server_id, request)
        if may:
            await self._registry.trust(server)
        elif not await self._registry.trust_first(server):
            raise _refusal()
        self._known.pop(server_id, None)
        return messages.ServerRegistered(given.server_id)

    async def _trusted(self, server_id: bytes) -> Server | None:
        """The row of a server, unless it stood in the settings alone and does not any more."""
        row = await self._registry.server(server_id)
        return None if row is not None and row.listed and server_id not in self._trust.listed else row

    async def _key(self, server_id: bytes) -> PublicKey | None:
        known = self._known.get(server_id)
        if known is not None and known[1] > self._clock():
            return known[0]
        row = await self._trusted(server_id)
        if row is None or not row.public_key:
            self._known.pop(server_id, None)
            return None
        key = PublicKey.parse(row.public_key)
        # Only known servers get in, so strangers cannot fill it; the bound is for many servers.
        if len(self._known) >= _MAX_REMEMBERED:
            self._known.clear()
        self._known[server_id] = key, self._clock() + _REMEMBERED_SECONDS
        return key

    async def _accept(self, key: PublicKey, server_id: bytes, request: SignedRequest) -> None:
        if not _TIMESTAMP.match(request.timestamp) or not _NONCE.match(request.nonce):
            raise _refusal()
        at = int(request.timestamp)
        if abs(self._clock() - at) > SKEW_SECONDS:
            raise _refusal()
        message = signed_bytes.relay_request(
            request.method, request.target, request.timestamp, request.nonce, request.body
        )
        if not key.verify(message, _signature(request.signature)):
            raise _refusal()
        # By server: one server's nonces are none of another's.
        spent = b"s" + server_id[:16] + bytes.fromhex(request.nonce)
        if not await self._registry.use_nonce(spent, at + SKEW_SECONDS + 1):
            raise _refusal()


def _signature(text: str) -> bytes:
    try:
        return decode_base64(text, "X-Sigil-Request-Signature")
    except InvalidRequest:
        raise _refusal() from None


def _refusal() -> Unauthorized:
    return Unauthorized("Sign the request with the key of a server that this relay knows.")
