"""The client of the relay against responses that a relay should not give, and one that it should."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import msgspec
import pytest

from sigil.protocol import signed_bytes
from sigil.protocol.encoding.text import decode_base64
from sigil.protocol.messages.relay import WantedPush
from sigil.pushes import relay_client as implementation
from sigil.pushes.relay_client import MAX_RESPONSE, RelayClient
from sigil.pushes.service import RelayRejected, RelayUnavailable
from tests.support.services import IDENTITY, START

Response = Callable[[httpx.Request], httpx.Response]
PUSH = WantedPush("key", "f" * 64, msgspec.Raw(b"{}"))


class FakeTransport(httpx.AsyncBaseTransport):
    """Gives the responses one after the other; the last one repeats."""

    def __init__(self, *responses: Response | Exception) -> None:
        self._responses = list(responses)
        self.requests: list[httpx.Request] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        await asyncio.sleep(0)
        response = self._responses.pop(0) if len(self._responses) > 1 else self._responses[0]
        if isinstance(response, Exception):
            raise response
        return response(request)

    def paths(self) -> list[str]:
        return [request.url.path for request in self.requests]


def client(transport: httpx.AsyncBaseTransport, url: str = "http://relay:8080") -> RelayClient:
    return RelayClient(
        url, identity=IDENTITY, server_name="Test", clock=lambda: START, randomness=os.urandom, transport=transport
    )


def streamed(status: int, data: bytes, **headers: str) -> httpx.Response:
    return httpx.Response(status, stream=httpx.ByteStream(data), headers=headers)


def responds(status: int, body: Any = None, **headers: str) -> Response:
    return lambda request: streamed(status, json.dumps(body or {}).encode(), **headers)


def accepts(request: httpx.Request) -> httpx.Response:
    """The response of a relay that accepts every push."""
    if request.url.path.endswith("/servers/register"):
        return streamed(200, json.dumps({"server_id": IDENTITY.server_id}).encode())
    count = len(next(iter(json.loads(request.content).values())))
    results = [{"fingerprint": "f" * 64, "status": "delivered", "later": 1} for _ in range(count)]
    return streamed(200, json.dumps({"results": results}).encode())


async def test_the_signature_covers_the_target_as_sent() -> None:
    for url, target in (("http://relay:8080", "/push"), ("https://example.com/re lay/", "/re%20lay/push")):
        transport = FakeTransport(accepts)
        relay = client(transport, url.rstrip("/"))
        assert [result.status for result in await relay.push([PUSH, PUSH])] == ["delivered"] * 2
        await relay.close()
        (request,) = transport.requests
        assert request.url.raw_path == target.encode()
        headers = request.headers
        message = signed_bytes.relay_request(
            "POST", target, headers["x-sigil-timestamp"], headers["x-sigil-nonce"], request.content
        )
        signature = decode_base64(headers["x-sigil-request-signature"], "")
        assert IDENTITY.keys["ES256"].public.verify(message, signature)
        assert headers["x-sigil-server-id"] == IDENTITY.server_id
        assert len(headers["x-sigil-nonce"]) == 32


async def test_an_unknown_server_registers_once_for_all_requests_in_flight_and_repeats_them() -> None:
    known = False

    def registered_only(request: httpx.Request) -> httpx.Response:
        nonlocal known
        known = known or request.url.path == "/servers/register"
        return accepts(request) if known else responds(401)(request)

    transport = FakeTransport(registered_only)
    relay = client(transport)
    results = await asyncio.gather(*(relay.push([PUSH]) for _ in range(5)))
    assert [result[0].status for result in results] == ["delivered"] * 5
    assert transport.paths().count("/servers/register") == 1


async def test_a_server_that_the_relay_does_not_trust_fails_with_401() -> None:
    transport = FakeTransport(responds(401))
    for call in (client(transport).push([PUSH]), client(transport).outcomes(["key"]), client(transport).register()):
        with pytest.raises(RelayUnavailable, match="401"):
            await call
    assert transport.paths() == [
        "/push",
        "/servers/register",
        "/push/outcomes",
        "/servers/register",
        "/servers/register",
    ]


@pytest.mark.parametrize("status", [400, 413, 415])
async def test_statuses_that_a_repeat_would_get_again_are_rejections(status: int) -> None:
    with pytest.raises(RelayRejected, match=str(status)):
        await client(FakeTransport(responds(status))).push([PUSH])


@pytest.mark.parametrize(
    "response",
    [
        responds(302, location="http://elsewhere/push"),
        responds(404),
        responds(429),
        responds(500),
        responds(503),
        responds(200, {"results": []}),
        responds(200, {"results": [{"fingerprint": "f", "status": "unknown status"}]}),
        responds(200, ["no object"]),
        lambda request: streamed(200, b"\xff{"),
        lambda request: streamed(200, b"[" * 100_000),
        lambda request: streamed(200, b" " * (MAX_RESPONSE + 1)),
        httpx.ConnectError("refused"),
        httpx.ConnectTimeout("slow"),
        httpx.ReadTimeout("slow"),
        httpx.RemoteProtocolError("no HTTP"),
        OSError("no route"),
    ],
)
async def test_every_other_response_counts_as_unavailable(response: Response | Exception) -> None:
    transport = FakeTransport(response)
    with pytest.raises(RelayUnavailable) as unavailable:
        await client(transport).push([PUSH])
    assert len(transport.requests) == (2 if isinstance(response, httpx.RemoteProtocolError) else 1)
    assert "refused" not in str(unavailable.value)


async def test_a_closed_connection_is_replaced_and_the_request_is_signed_again() -> None:
    transport = FakeTransport(httpx.RemoteProtocolError("closed"), accepts)
    assert (await client(transport).push([PUSH]))[0].status == "delivered"
    nonces = {request.headers["x-sigil-nonce"] for request in transport.requests}
    assert len(nonces) == 2


async def test_a_response_that_does_not_end_is_cut_off() -> None:
    read = 0

    class Endless(httpx.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            nonlocal read
            while True:
                read += 65536
                yield b" " * 65536

    with pytest.raises(RelayUnavailable, match="does not end"):
        await client(FakeTransport(lambda request: httpx.Response(200, stream=Endless()))).push([PUSH])
    assert read <= MAX_RESPONSE + 65536


async def test_a_relay_that_never_responds_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    class Silent(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            await asyncio.Event().wait()
            raise AssertionError

    monkeypatch.setattr(implementation, "TOTAL_SECONDS", 0.01)
    with pytest.raises(RelayUnavailable, match="in time"):
        await client(Silent()).push([PUSH])
