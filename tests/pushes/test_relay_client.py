"""The relay's client against answers that a relay should not give, and one that it should."""

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
from sigil.protocol.encoding import decode_base64
from sigil.protocol.relay_messages import WantedPush
from sigil.pushes import relay_client as implementation
from sigil.pushes.relay_client import MAX_RESPONSE, RelayClient
from sigil.pushes.service import RelayRejected, RelayUnavailable
from tests.support.services import IDENTITY, START

Answer = Callable[[httpx.Request], httpx.Response]
PUSH = WantedPush("key", "f" * 64, msgspec.Raw(b"{}"))


class Peer(httpx.AsyncBaseTransport):
    """Answers as told, one after the other; the last answer stays."""

    def __init__(self, *answers: Answer | Exception) -> None:
        self._answers = list(answers)
        self.requests: list[httpx.Request] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        await asyncio.sleep(0)
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer(request)

    def paths(self) -> list[str]:
        return [request.url.path for request in self.requests]


def client(peer: httpx.AsyncBaseTransport, url: str = "http://relay:8080") -> RelayClient:
    return RelayClient(
        url, identity=IDENTITY, server_name="Test", clock=lambda: START, randomness=os.urandom, transport=peer
    )


def streamed(status: int, data: bytes, **headers: str) -> httpx.Response:
    return httpx.Response(status, stream=httpx.ByteStream(data), headers=headers)


def says(status: int, body: Any = None, **headers: str) -> Answer:
    return lambda request: streamed(status, json.dumps(body or {}).encode(), **headers)


def takes(request: httpx.Request) -> httpx.Response:
    """What a relay answers that takes everything."""
    if request.url.path.endswith("/servers/register"):
        return streamed(200, json.dumps({"server_id": IDENTITY.server_id}).encode())
    count = len(next(iter(json.loads(request.content).values())))
    results = [{"fingerprint": "f" * 64, "status": "delivered", "later": 1} for _ in range(count)]
    return streamed(200, json.dumps({"results": results}).encode())


async def test_requests_are_signed_over_their_target_as_it_is_sent() -> None:
    for url, target in (("http://relay:8080", "/push"), ("https://example.com/re lay/", "/re%20lay/push")):
        peer = Peer(takes)
        relay = client(peer, url.rstrip("/"))
        assert [result.status for result in await relay.push([PUSH, PUSH])] == ["delivered"] * 2
        await relay.close()
        (request,) = peer.requests
        assert request.url.raw_path == target.encode()
        headers = request.headers
        message = signed_bytes.relay_request(
            "POST", target, headers["x-sigil-timestamp"], headers["x-sigil-nonce"], request.content
        )
        signature = decode_base64(headers["x-sigil-request-signature"], "")
        assert IDENTITY.keys["ES256"].public.verify(message, signature)
        assert headers["x-sigil-server-id"] == IDENTITY.server_id
        assert len(headers["x-sigil-nonce"]) == 32


async def test_an_unknown_server_registers_once_for_all_that_are_under_way_and_asks_again() -> None:
    known = False

    def knows(request: httpx.Request) -> httpx.Response:
        nonlocal known
        known = known or request.url.path == "/servers/register"
        return takes(request) if known else says(401)(request)

    peer = Peer(knows)
    relay = client(peer)
    answers = await asyncio.gather(*(relay.push([PUSH]) for _ in range(5)))
    assert [result[0].status for result in answers] == ["delivered"] * 5
    assert peer.paths().count("/servers/register") == 1


async def test_a_server_that_the_relay_does_not_trust_is_told_so() -> None:
    peer = Peer(says(401))
    for call in (client(peer).push([PUSH]), client(peer).outcomes(["key"]), client(peer).register()):
        with pytest.raises(RelayUnavailable, match="401"):
            await call
    assert peer.paths() == ["/push", "/servers/register", "/push/outcomes", "/servers/register", "/servers/register"]


@pytest.mark.parametrize("status", [400, 413, 415])
async def test_what_would_be_refused_again_is_a_refusal(status: int) -> None:
    with pytest.raises(RelayRejected, match=str(status)):
        await client(Peer(says(status))).push([PUSH])


@pytest.mark.parametrize(
    "answer",
    [
        says(302, location="http://elsewhere/push"),
        says(404),
        says(429),
        says(500),
        says(503),
        says(200, {"results": []}),
        says(200, {"results": [{"fingerprint": "f", "status": "no word of ours"}]}),
        says(200, ["no object"]),
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
async def test_whatever_is_no_answer_counts_as_away_and_is_asked_once(answer: Answer | Exception) -> None:
    peer = Peer(answer)
    with pytest.raises(RelayUnavailable) as away:
        await client(peer).push([PUSH])
    assert len(peer.requests) == (2 if isinstance(answer, httpx.RemoteProtocolError) else 1)
    assert "refused" not in str(away.value)


async def test_a_connection_that_was_closed_meanwhile_is_replaced_and_the_request_signed_anew() -> None:
    peer = Peer(httpx.RemoteProtocolError("closed"), takes)
    assert (await client(peer).push([PUSH]))[0].status == "delivered"
    nonces = {request.headers["x-sigil-nonce"] for request in peer.requests}
    assert len(nonces) == 2


async def test_an_answer_that_does_not_end_is_cut_off() -> None:
    read = 0

    class Endless(httpx.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            nonlocal read
            while True:
                read += 65536
                yield b" " * 65536

    with pytest.raises(RelayUnavailable, match="does not end"):
        await client(Peer(lambda request: httpx.Response(200, stream=Endless()))).push([PUSH])
    assert read <= MAX_RESPONSE + 65536


async def test_a_relay_that_never_answers_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    class Silent(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            await asyncio.Event().wait()
            raise AssertionError

    monkeypatch.setattr(implementation, "TOTAL_SECONDS", 0.01)
    with pytest.raises(RelayUnavailable, match="in time"):
        await client(Silent()).push([PUSH])
