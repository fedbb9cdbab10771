"""Requests that need no key of the relay are charged to their address, and keep out no client that the relay knows."""

from __future__ import annotations

import contextlib
import secrets
import socket
import time
from itertools import count

import httpx
import pytest
from websockets.exceptions import ConnectionClosed

from sigil.device import Device
from tests.relay.devices_of_relay import authenticate, open_socket, register
from tests.support.live import DEADLINE
from tests.support.live_relay import LiveRelay, Server

_numbers = count(2)


@pytest.fixture
def address() -> str:
    return f"127.0.7.{next(_numbers)}"


def forged_head(size: int, **changed: str) -> dict[str, str]:
    """The headers of a server that the relay does not know."""
    return {
        "X-Sigil-Server-Id": secrets.token_hex(32),
        "X-Sigil-Timestamp": str(int(time.time())),
        "X-Sigil-Nonce": secrets.token_hex(16),
        "X-Sigil-Request-Signature": "AAAA",
        "Content-Type": "application/json",
        "Content-Length": str(size),
        **changed,
    }


@pytest.mark.parametrize("path", ["/push", "/push/outcomes", "/servers/register"])
def test_requests_with_random_server_ids_are_charged(relay: LiveRelay, address: str, path: str) -> None:
    with relay.client(transport=httpx.HTTPTransport(local_address=address)) as client:
        codes = [client.post(path, content=b"{}", headers=forged_head(2)).status_code for _ in range(80)]
    assert codes[0] in {400, 401}
    assert codes[-1] == 429


def test_a_known_server_is_served_although_its_address_is_over_the_limit(server: Server) -> None:
    """The address of `server` is used up by a client that shares it."""
    assert server.post("/push/outcomes", {"push_keys": ["a"]}).status_code == 200
    codes = {server.client.post("/push", content=b"{}", headers=forged_head(2)).status_code for _ in range(80)}
    assert codes == {401, 429}
    claimed = forged_head(2, **{"X-Sigil-Server-Id": server.identity.server_id})
    assert server.client.post("/push", content=b"{}", headers=claimed).status_code == 401
    assert server.post("/push/outcomes", {"push_keys": ["a"]}).status_code == 200


@pytest.mark.parametrize("first", ["/servers/register", "/push/outcomes"])
def test_a_known_server_gets_in_at_a_worker_that_never_served_it(first: str) -> None:
    """A client that shares its address uses up the limit before its first request, also in the name of the server."""
    with LiveRelay() as relay, relay.client() as client:
        server = Server(client)
        assert server.register().status_code == 200
        relay.stop()
        relay.start()
        codes = [client.post("/push", content=b"{}", headers=forged_head(2)).status_code for _ in range(80)]
        assert (codes[0], codes[-1]) == (401, 429)
        claimed = {"X-Sigil-Server-Id": server.identity.server_id}
        assert client.post("/push", content=b"{}", headers=forged_head(2, **claimed)).status_code == 401
        large = forged_head(100_000, **claimed)
        assert client.post("/push", content=bytes(100_000), headers=large).status_code == 429
        if first == "/servers/register":
            assert server.register().status_code == 200
        # The second is large: its server is known from here by then.
        for count_of_keys in (1, 500) if first == "/push/outcomes" else (500,):
            keys = [str(number).ljust(200, "x") for number in range(count_of_keys)]
            assert server.post("/push/outcomes", {"push_keys": keys}).status_code == 200


def test_a_request_over_the_limit_is_answered_before_its_body(relay: LiveRelay, address: str) -> None:
    with relay.client(transport=httpx.HTTPTransport(local_address=address)) as client:
        for _ in range(70):
            client.post("/push", content=b"{}", headers=forged_head(2))
    head = "".join(f"{name}: {value}\r\n" for name, value in forged_head(2_000_000).items())
    with socket.create_connection(("127.0.0.1", relay.port), source_address=(address, 0), timeout=DEADLINE) as raw:
        raw.sendall(f"POST /push HTTP/1.1\r\nHost: relay\r\n{head}\r\n".encode())
        assert b" 429 " in raw.recv(4096)


@pytest.mark.parametrize(("path", "limit"), [("/push/outcomes", 256 * 1024), ("/devices/register", 32 * 1024)])
def test_each_kind_of_request_has_its_own_largest_body(
    relay: LiveRelay, server: Server, address: str, path: str, limit: int
) -> None:
    with relay.client(transport=httpx.HTTPTransport(local_address=address)) as client:
        sender = Server(client, server.identity)
        assert sender.post(path, b"x" * limit).status_code == 400
        assert sender.post(path, b"x" * (limit + 1)).status_code == 413


async def test_failed_authentications_are_charged_and_keep_no_device_out(
    relay: LiveRelay, http: httpx.Client, address: str
) -> None:
    known, new = Device.generate(), Device.generate()
    for device in (known, new):
        register(device, http, relay.url)

    async def answer(device: Device) -> str:
        async with open_socket(relay, local_addr=(address, 0)) as client:
            try:
                reply = await authenticate(device, client, relay.url)
            except ConnectionClosed as closed:
                return str(closed.rcvd.code if closed.rcvd else 0)
            return str(reply.get("error") or reply["type"])

    assert await answer(known) == "auth_success"
    stranger = Device.generate()
    answers = [await answer(stranger) for _ in range(70)]
    assert set(answers) == {"not_registered"}
    for device in (known, new):
        assert await answer(device) == "auth_success"


async def test_a_device_that_reconnects_without_end_is_limited(relay: LiveRelay, http: httpx.Client) -> None:
    device = Device.generate()
    register(device, http, relay.url)
    closed = 0
    for _ in range(70):
        async with open_socket(relay) as client:
            with contextlib.suppress(ConnectionClosed):
                await authenticate(device, client, relay.url)
                continue
            closed += 1
            assert client.close_code == 1013
    assert closed > 0
