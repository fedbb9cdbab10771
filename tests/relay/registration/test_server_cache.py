"""How long a worker of the relay remembers the key of a trusted server."""

from __future__ import annotations

from typing import Any, cast

import pytest

from relay.registration.servers import Servers, SignedRequest, TrustPolicy
from relay.registry.model import Server
from sigil.protocol import signed_bytes
from sigil.protocol.encoding.text import encode_base64
from sigil.protocol.errors import Unauthorized
from sigil.protocol.keys import PrivateKey
from tests.support.services import IDENTITY

NOW = 1_777_026_735


class OneServer:
    """A registry that trusts one server until it is removed."""

    def __init__(self, server: Server) -> None:
        self.known: Server | None = server
        self.nonces: set[bytes] = set()

    async def server(self, _server_id: bytes) -> Server | None:
        return self.known

    async def use_nonce(self, nonce: bytes, _until: int) -> bool:
        fresh = nonce not in self.nonces
        self.nonces.add(nonce)
        return fresh


class Times:
    def __init__(self) -> None:
        self.of_day, self.monotonic, self.sent = float(NOW), 50.0, 0


def signed(key: PrivateKey, times: Times) -> SignedRequest:
    times.sent += 1
    timestamp, nonce = str(int(times.of_day)), f"{times.sent:032x}"
    signature = key.sign(signed_bytes.relay_request("POST", "/push", timestamp, nonce, b""))
    fingerprint = key.public.fingerprint
    return SignedRequest("POST", "/push", b"", fingerprint, timestamp, nonce, encode_base64(signature))


async def test_a_removed_server_is_rejected_in_ten_seconds_also_when_the_clock_is_set_back() -> None:
    key, times = IDENTITY.keys["ES256"], Times()
    registry = OneServer(Server(bytes.fromhex(key.public.fingerprint), key.public.wire, "Test", NOW))
    clocks: dict[str, Any] = {"clock": lambda: times.of_day, "monotonic": lambda: times.monotonic}
    servers = Servers(registry=cast(Any, registry), trust=TrustPolicy(), **clocks)
    assert await servers.authenticate(signed(key, times)) == bytes.fromhex(key.public.fingerprint)
    registry.known = None
    assert await servers.authenticate(signed(key, times))
    times.monotonic += 10
    times.of_day -= 3600
    with pytest.raises(Unauthorized):
        await servers.authenticate(signed(key, times))
