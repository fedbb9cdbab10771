"""Unauthenticated clients that hold or flood sockets: they keep no device out, and the worker stays small."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from websockets.exceptions import ConnectionClosed, WebSocketException

from sigil.device import Device
from tests.relay.devices_of_relay import authenticate, listening, open_socket, register
from tests.support.live import DEADLINE, wait_until
from tests.support.live_relay import LiveRelay
from tests.support.ports import free_port

UPGRADE = (
    b"GET /ws HTTP/1.1\r\nHost: relay\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)
ADDRESSES = [f"127.0.3.{number}" for number in range(1, 9)]
ELSEWHERE = "127.0.9.9"
OF_ADDRESS = 256


MAIN_PORT, OWN_PORT = "main port", "port of its own"
# Granian reads the frames of the main port.
on_its_own_port = pytest.mark.parametrize("settings", [OWN_PORT], indirect=True)


@pytest.fixture(scope="module", params=[MAIN_PORT, OWN_PORT])
def settings(request: pytest.FixtureRequest) -> dict[str, str]:
    return {"RELAY_WS_PORT": str(free_port())} if request.param == OWN_PORT else {}


@pytest.fixture
def listener(relay: LiveRelay, http: httpx.Client) -> Device:
    device = Device.generate()
    register(device, http, relay.url)
    return device


@contextlib.contextmanager
def silent_sockets(
    relay: LiveRelay, addresses: list[str], count: int, request: bytes = UPGRADE
) -> Iterator[list[socket.socket]]:
    """`count` sockets of each address; with UPGRADE they are WebSockets that do not answer the challenge."""
    port = urlsplit(relay.ws_url).port
    with contextlib.ExitStack() as opened:
        sockets = []
        for number in range(count):
            for address in addresses:
                client = socket.create_connection(("127.0.0.1", port), source_address=(address, 0), timeout=DEADLINE)
                opened.enter_context(client)
                client.sendall(request)
                sockets.append(client)
            if request and number % 8 == 7:
                for client in sockets[-len(addresses) :]:
                    with contextlib.suppress(ConnectionError):
                        assert b" 101 " in client.recv(4096)
        yield sockets


async def answer_of(relay: LiveRelay, device: Device, address: str) -> str:
    """The relay's frame after the device has answered the challenge, from `address`."""
    async with open_socket(relay, local_addr=(address, 0)) as client:
        return str((await authenticate(device, client, relay.url))["type"])


def worker_pid(relay: LiveRelay) -> int:
    return int(relay.events("worker_ready")[-1]["pid"])


def descriptors(pid: int) -> int:
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())


async def test_silent_sockets_keep_no_device_out(relay: LiveRelay, settings: dict[str, str], listener: Device) -> None:
    """Neither from another address nor from one of theirs."""
    # A socket of the main port takes 150 kB: there, one address is enough to show it.
    addresses = ADDRESSES if settings else [ELSEWHERE]
    before = descriptors(worker_pid(relay))
    with silent_sockets(relay, addresses, OF_ADDRESS):
        for address in {ELSEWHERE, addresses[0]}:
            assert await answer_of(relay, listener, address) == "auth_success"
        wait_until(
            lambda: descriptors(worker_pid(relay)) <= before + OF_ADDRESS * len(addresses), "evicted sockets to close"
        )


async def test_sockets_that_are_being_closed_count(relay: LiveRelay, listener: Device) -> None:
    """A peer that does not answer the close frame holds its descriptor for as long as the close may take."""
    before = descriptors(worker_pid(relay))
    with silent_sockets(relay, [ELSEWHERE], 3 * OF_ADDRESS):
        assert await answer_of(relay, listener, ELSEWHERE) == "auth_success"
        # The last ones that were evicted may still be closing.
        assert descriptors(worker_pid(relay)) < before + 2 * OF_ADDRESS


async def test_a_device_that_floods_frames_is_closed(relay: LiveRelay, listener: Device) -> None:
    async with listening(relay, listener) as client, asyncio.timeout(DEADLINE):
        with contextlib.suppress(ConnectionClosed):
            # A heartbeat may fall into the first thousand.
            for number in range(2 * 1001):
                await client.send('{"type":"pong"}')
                if number % 100 == 0:
                    # More unread bytes in one piece would abort the connection, without a code.
                    await (await client.ping())
        await client.wait_closed()
        assert client.close_code == 4004


@on_its_own_port
async def test_connections_without_a_request_keep_no_device_out(relay: LiveRelay, listener: Device) -> None:
    with silent_sockets(relay, ADDRESSES, OF_ADDRESS, request=b""):
        for address in (ELSEWHERE, ADDRESSES[0]):
            assert await answer_of(relay, listener, address) == "auth_success"


@on_its_own_port
@pytest.mark.parametrize(
    ("what", "flood"),
    [
        # A frame with an empty mask is its text: FIN and opcode, length, mask, content.
        ("pings whose answers are not read", (b"\x89\xfd" + bytes(4) + b"x" * 125) * 500),
        ("empty fragments of one message", b"\x00\x80" + bytes(4)),
    ],
)
def test_a_peer_that_makes_the_relay_keep_data_is_disconnected(relay: LiveRelay, what: str, flood: bytes) -> None:
    with silent_sockets(relay, ["127.0.5.1"], 8) as (client, *_):
        client.sendall(b"\x01\x80" + bytes(4) if "fragments" in what else b"")
        flood *= max(1, 60_000 // len(flood))
        try:
            for _ in range(64_000_000 // len(flood)):
                client.sendall(flood)
        except ConnectionError:
            return
        pytest.fail("64 MB were taken")


async def test_the_port_recovers_when_the_process_has_run_out_of_descriptors() -> None:
    with LiveRelay(RELAY_WS_PORT=str(free_port())) as full:
        device = Device.generate()
        with full.client() as client:
            register(device, client, full.url)
        pid = worker_pid(full)
        # The limits of connections were computed from a higher limit: only the descriptors run out.
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (descriptors(pid) + 20,) * 2)
        with silent_sockets(full, ADDRESSES, 50, request=b""):
            await asyncio.sleep(0.5)
        async with asyncio.timeout(DEADLINE):
            while True:
                with contextlib.suppress(OSError, EOFError, TimeoutError, WebSocketException):
                    if await answer_of(full, device, ELSEWHERE) == "auth_success":
                        break
                await asyncio.sleep(0.1)
        wait_until(lambda: cpu_ticks_of_a_second(pid) < 25, "the worker to rest")


def cpu_ticks_of_a_second(pid: int) -> int:
    before = cpu_ticks(pid)
    time.sleep(1)
    return cpu_ticks(pid) - before


def cpu_ticks(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


async def test_evicted_sockets_are_counted() -> None:
    with (
        LiveRelay(RELAY_WS_PORT=str(free_port())) as relay,
        silent_sockets(relay, [ELSEWHERE], OF_ADDRESS + 2, b""),
        relay.client() as client,
    ):
        wait_until(
            lambda: 'relay_rate_limited_total{limit="arrivals"} 2.0' in client.get("/metrics").text,
            "both evicted connections to be counted",
        )
