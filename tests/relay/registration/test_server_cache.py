"""The keys of trusted servers in a worker of the relay: how long it remembers them, and what unknown ids cost."""

from __future__ import annotations

import dataclasses
from typing import Any, cast

import pytest

from relay.registration.servers import Servers, SignedHead, TrustPolicy
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
        self.queries = 0

    async def server(self, _server_id: bytes) -> Server | None:
        self.queries += 1
        return self.known

    async def servers(self) -> list[Server]:
        self.queries += 1
        return [self.known] if self.known else []

    async def use_nonce(self, nonce: bytes, _until: int) -> bool:
        fresh = nonce not in self.nonces
        self.nonces.add(nonce)
        return fresh


class Times:
    def __init__(self) -> None:
        self.of_day, self.monotonic, self.sent = float(NOW), 50.0, 0


def signed(key: PrivateKey, times: Times) -> SignedHead:
    times.sent += 1
    timestamp, nonce = str(int(times.of_day)), f"{times.sent:032x}"
    signature = key.sign(signed_bytes.relay_request("POST", "/push", timestamp, nonce, b""))
    fingerprint = key.public.fingerprint
    return SignedHead("POST", "/push", fingerprint, timestamp, nonce, encode_base64(signature))


async def authenticate(servers: Servers, head: SignedHead) -> bytes:
    server_id = servers.verify(await servers.expect(head), head, b"")
    await servers.use_nonce(server_id, head)
    return server_id


async def test_requests_with_unknown_ids_cause_one_query_in_a_second() -> None:
    key, times = IDENTITY.keys["ES256"], Times()
    registry = OneServer(Server(bytes.fromhex(key.public.fingerprint), key.public.wire, "Test", NOW))
    clocks: dict[str, Any] = {"clock": lambda: times.of_day, "monotonic": lambda: times.monotonic}
    servers = Servers(registry=cast(Any, registry), trust=TrustPolicy(), **clocks)
    for second in range(3):
        for number in range(100):
            head = dataclasses.replace(signed(key, times), server_id=f"{second:032x}{number:032x}")
            with pytest.raises(Unauthorized):
                await servers.expect(head)
        times.monotonic += 1
    assert registry.queries == 3
    assert await authenticate(servers, signed(key, times))


async def test_a_request_of_another_form_or_time_costs_no_query() -> None:
    key, times = IDENTITY.keys["ES256"], Times()
    registry = OneServer(Server(bytes.fromhex(key.public.fingerprint), key.public.wire, "Test", NOW))
    servers = Servers(registry=cast(Any, registry), trust=TrustPolicy(), clock=lambda: times.of_day)
    good = signed(key, times)
    for changed in ({"server_id": "x"}, {"timestamp": str(NOW - 61)}, {"nonce": "0"}, {"signature": ""}):
        with pytest.raises(Unauthorized):
            await servers.expect(dataclasses.replace(good, **changed))
    assert registry.queries == 0


async def test_a_removed_server_is_rejected_in_ten_seconds_also_when_the_clock_is_set_back() -> None:
    key, times = IDENTITY.keys["ES256"], Times()
    registry = OneServer(Server(bytes.fromhex(key.public.fingerprint), key.public.wire, "Test", NOW))
    clocks: dict[str, Any] = {"clock": lambda: times.of_day, "monotonic": lambda: times.monotonic}
    servers = Servers(registry=cast(Any, registry), trust=TrustPolicy(), **clocks)
    assert await authenticate(servers, signed(key, times)) == bytes.fromhex(key.public.fingerprint)
    registry.known = None
    assert await authenticate(servers, signed(key, times))
    times.monotonic += 10
    times.of_day -= 3600
    with pytest.raises(Unauthorized):
        await authenticate(servers, signed(key, times))
