"""Two relays on one database: a server or a device may connect to either."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import pytest

from sigil.device import Device
from sigil.protocol.encoding.text import format_time
from tests.relay.conftest import wanted
from tests.relay.devices_of_relay import acknowledge, frame, listening, register, registration
from tests.relay.registration.test_registration import code
from tests.relay.sockets.test_socket import closed_with
from tests.support.live import wait_until
from tests.support.live_relay import LiveRelay, Server
from tests.support.postgres import PostgresServer

pytest_plugins = ["tests.support.postgres_fixtures"]

KEY = "an-encryption-key-of-more-than-32-characters"


@pytest.fixture(scope="module")
def replicas(postgres: PostgresServer) -> Iterator[tuple[LiveRelay, LiveRelay]]:
    # Clients sign the origin of the port they connect to: without a public URL a relay expects the Host of the request.
    settings = {"DATABASE_URL": postgres.new_database(), "TOKEN_ENCRYPTION_KEY": KEY, "RELAY_WORKERS": "1"}
    with LiveRelay(RELAY_PUBLIC_URL="", **settings) as one, LiveRelay(RELAY_PUBLIC_URL="", **settings) as other:
        yield one, other
        assert not [*one.events("internal_error"), *other.events("internal_error")]


@pytest.fixture(scope="module")
def server(replicas: tuple[LiveRelay, LiveRelay]) -> Iterator[Server]:
    """A server that is a client of the first replica."""
    with replicas[0].client() as client:
        server = Server(client)
        assert server.register().status_code == 200
        yield server


@pytest.fixture(scope="module")
def other_server(replicas: tuple[LiveRelay, LiveRelay], server: Server) -> Iterator[Server]:
    """The same server as a client of the other replica."""
    with replicas[1].client() as client:
        yield Server(client, server.identity)


@pytest.fixture
def device(replicas: tuple[LiveRelay, LiveRelay]) -> Device:
    device = Device.generate()
    with replicas[0].client() as client:
        register(device, client, replicas[0].url)
    return device


def status_at(server: Server, key: str) -> str:
    answer = server.post("/push/outcomes", {"push_keys": [key]})
    status: str = answer.json()["results"][0]["status"]
    return status


async def test_a_push_reaches_the_device_through_the_replica_of_its_connection(
    replicas: tuple[LiveRelay, LiveRelay], server: Server, device: Device
) -> None:
    async with listening(replicas[1], device) as socket:
        (queued,) = await asyncio.to_thread(server.push, wanted(device, "across"))
        push = await frame(socket)
        assert push["push_id"] == queued["push_id"]
        await acknowledge(socket, push)
        await asyncio.to_thread(wait_until, lambda: status_at(server, "across") == "delivered", "the acknowledgement")


async def test_the_newest_connection_wins_on_any_replica(
    replicas: tuple[LiveRelay, LiveRelay], server: Server, device: Device
) -> None:
    async with listening(replicas[0], device) as first, listening(replicas[1], device) as second:
        assert await closed_with(first) == 4000
        (queued,) = await asyncio.to_thread(server.push, wanted(device, "newest"))
        assert (await frame(second))["push_id"] == queued["push_id"]


async def test_a_repeat_at_the_other_replica_sends_nothing(
    replicas: tuple[LiveRelay, LiveRelay], server: Server, other_server: Server, device: Device
) -> None:
    async with listening(replicas[0], device) as socket:
        (first,) = await asyncio.to_thread(server.push, wanted(device, "twice"))
        (again,) = await asyncio.to_thread(other_server.push, wanted(device, "twice"))
        assert again["push_id"] == first["push_id"]
        (other,) = await asyncio.to_thread(other_server.push, wanted(device, "another"))
        assert [(await frame(socket))["push_id"] for _ in range(2)] == [first["push_id"], other["push_id"]]


def test_a_signed_request_works_at_one_replica_only(server: Server, other_server: Server) -> None:
    body = b'{"push_keys":["k"]}'
    signed = server.headers("POST", "/push/outcomes", body)
    assert server.client.post("/push/outcomes", content=body, headers=signed).status_code == 200
    assert code(other_server.client.post("/push/outcomes", content=body, headers=signed)) == (401, "UNAUTHORIZED")


def test_a_nonce_of_one_replica_is_valid_once_at_the_other(replicas: tuple[LiveRelay, LiveRelay]) -> None:
    device = Device.generate()
    with replicas[0].client() as one, replicas[1].client() as other:
        # The signed origin is that of the replica that receives the request.
        body = registration(device, one, replicas[1].url)
        assert other.post("/devices/register", json=body).status_code == 201
        assert code(other.post("/devices/register", json=body)) == (401, "INVALID_SIGNATURE")


def test_the_rate_limit_counts_both_replicas(server: Server, other_server: Server, device: Device) -> None:
    def ten(at: Server, name: str) -> list[str]:
        return [result["status"] for result in at.push(*(wanted(device, f"{name}{number}") for number in range(10)))]

    assert ten(server, "here") == ["queued"] * 10
    assert "rate_limited" in ten(other_server, "there")


def test_a_replica_that_is_killed_loses_no_push_of_a_history(postgres: PostgresServer) -> None:
    """Pushes of both are in one history, while they are queued and after another replica has swept them."""
    database = postgres.new_database()
    settings = {"DATABASE_URL": database, "TOKEN_ENCRYPTION_KEY": KEY, "RELAY_PUSH_CONSOLE": "true"}
    phone, offline = Device.generate(), Device.generate()
    with LiveRelay(**settings) as killed, LiveRelay(**settings) as left, left.client() as client:
        with killed.client() as one:
            server = Server(one)
            assert server.register().status_code == 200
            register(phone, one, killed.url, "apns", "token")
            register(offline, one, killed.url)
            soon = format_time(int(time.time()) + 10)
            server.push(*(wanted(phone, f"k{number}", expires_at=soon) for number in range(3)))
            server.push(wanted(offline, "waits", expires_at=soon))
        killed.kill()
        at_left = Server(client, server.identity)
        at_left.push(*(wanted(phone, f"l{number}", expires_at=soon) for number in range(3)))

        def history(device: Device) -> list[tuple[str, str, str | None]]:
            answer = at_left.post("/push/history", {"fingerprint": device.fingerprint})
            pushes = sorted(answer.json()["pushes"], key=lambda push: push["push_key"])
            return [(push["push_key"], push["status"], push.get("error")) for push in pushes]

        delivered = [(f"{name}{number}", "delivered", None) for name in "kl" for number in range(3)]
        # Attempts of the killed replica are repeated when its lease ends, or expire.
        wait_until(lambda: postgres.query(database, "SELECT count(*) FROM push") == [["0"]], "the sweep")
        assert [key for key, _, _ in history(phone)] == [key for key, _, _ in delivered]
        assert history(phone)[3:] == delivered[3:]
        assert history(offline) == [("waits", "failed", "expired")]
        assert postgres.query(database, "SELECT count(*), sum(jsonb_array_length(entries)) FROM history") == [
            ["2", "7"]
        ]
