"""`RelayClient`: registration over HTTP, TLS trust, and many devices at once."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection
from websockets.datastructures import Headers
from websockets.http11 import Request, Response

from sigil.device import Device, verify_info
from sigil.device.errors import AddressRefused, AnswerUnusable, ServerRefused
from sigil.device.http.origin import relay_origin
from sigil.device.http.tls import TlsTrust
from sigil.device.relay import Disconnected, Listener, ListenerTiming, Received, RelayClient
from sigil.device.relay.errors import PackageMissing, RelayLost
from sigil.device.relay.socket import RelaySocket
from sigil.protocol.keys import SUITES, Suite
from tests.device.fake_relay import GUARD_SECONDS, FakeRelay, Heard, Peer, Registry, Script, push_id
from tests.device.fake_server import as_json, honest_info, identity, make_payload, problem
from tests.device.tls import certificate

ORIGIN = "https://relay.example.com"
SERVER = identity()
PIN = verify_info(as_json(honest_info(SERVER)), "https://auth.example.com")
NOW = 1_800_000_000.5


@pytest.mark.parametrize("suite", SUITES)
async def test_a_device_registers_and_unregisters_for_the_origin_that_it_connects_to(suite: Suite) -> None:
    registry, device = Registry(ORIGIN), Device.generate(suite)
    async with RelayClient("https://Relay.Example.com:443/", transport=registry.transport()) as relay:
        assert (await relay.register(device)).fingerprint == device.fingerprint
        await relay.register(device, "fcm", "töken")
        assert (await relay.unregister(device)).removed
    first, second, third = registry.registered
    assert (first["push_platform"], first["push_token"]) == ("websocket", "")
    assert (second["push_platform"], second["push_token"]) == ("fcm", "töken")
    assert set(third) == {"device_public_key", "challenge_id", "signature"}


async def test_a_rejected_signature_hints_at_the_relays_public_url() -> None:
    registry = Registry("https://other.example.com")
    async with RelayClient(ORIGIN, transport=registry.transport()) as relay:
        with pytest.raises(ServerRefused, match=f"Is {ORIGIN} the relay's RELAY_PUBLIC_URL") as refused:
            await relay.register(Device.generate())
    assert refused.value.code == "INVALID_SIGNATURE"


async def test_other_errors_keep_the_relays_message() -> None:
    registry = Registry(ORIGIN)
    registry.failures = [problem(429, "RATE_LIMITED", "Slow down.")]
    async with RelayClient(ORIGIN, transport=registry.transport()) as relay:
        with pytest.raises(ServerRefused, match=r"^Slow down\.$"):
            await relay.register(Device.generate())


@pytest.mark.parametrize("answer", [{"fingerprint": "ab" * 32}, {"fingerprint": 1}])
async def test_a_response_about_another_device_is_an_error(answer: dict[str, Any]) -> None:
    registry = Registry(ORIGIN)
    registry.answer = answer
    async with RelayClient(ORIGIN, transport=registry.transport()) as relay:
        for request in (relay.register, relay.unregister):
            with pytest.raises(AnswerUnusable):
                await request(Device.generate())


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://relay.example.com", ORIGIN),
        ("https://relay.example.com:8443/", f"{ORIGIN}:8443"),
        ("http://127.0.0.1:80", "http://127.0.0.1"),
        ("http://localhost:8080", "http://localhost:8080"),
        ("http://10.1.2.3:8080", "http://10.1.2.3:8080"),
        ("http://172.31.0.1", "http://172.31.0.1"),
        ("http://192.168.1.9", "http://192.168.1.9"),
        ("http://[fd00::1]:8080", "http://[fd00::1]:8080"),
        ("http://[::1]", "http://[::1]"),
    ],
)
def test_an_address_of_a_relay_is_its_origin(url: str, origin: str) -> None:
    assert relay_origin(url) == origin


@pytest.mark.parametrize(
    "url",
    [
        "http://relay.example.com",
        "http://relay:8080",
        "http://8.8.8.8",
        "http://172.32.0.1",
        "http://[2001:db8::1]",
        "http://[::ffff:808:808]",
        "http://192.168.1.9.example.com",
    ],
)
def test_plain_http_to_a_public_address_needs_the_option(url: str) -> None:
    with pytest.raises(AddressRefused, match="--insecure-relay"):
        relay_origin(url)
    assert relay_origin(url, any_http=True) == url


@pytest.mark.parametrize("url", ["wss://relay.example.com", "https://relay.example.com/ws", "https://a@b", "relay"])
def test_a_malformed_address_is_always_rejected(url: str) -> None:
    with pytest.raises(AddressRefused):
        relay_origin(url, any_http=True)


def server_tls(directory: Path) -> tuple[ssl.SSLContext, str, str]:
    made = certificate(directory)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made.files)
    return context, made.pem, made.sha256


async def test_a_websocket_is_trusted_by_ca_or_pin(tmp_path: Path) -> None:
    context, pem, sha256 = server_tls(tmp_path)
    for trust in (TlsTrust(ca_pem=pem), TlsTrust(sha256=sha256)):
        async with FakeRelay(tls=context) as relay, RelayClient(relay.origin, trust) as client:
            connection = await client.connect(Device.generate())
            async with connection:
                assert relay.peers == ["127.0.0.1"]


async def test_a_websocket_with_another_certificate_receives_nothing(tmp_path: Path) -> None:
    context, _, _ = server_tls(tmp_path)
    for trust in (TlsTrust(), TlsTrust(sha256="00" * 32)):
        async with FakeRelay(tls=context) as relay, RelayClient(relay.origin, trust) as client:
            with pytest.raises(RelayLost, match=r"is not trusted|not the pinned one"):
                await client.connect(Device.generate())
            assert relay.peers == []


async def test_a_redirect_is_not_followed() -> None:
    paths: list[str] = []

    def redirect(_connection: ServerConnection, request: Request) -> Response:
        paths.append(request.path)
        return Response(302, "Found", Headers({"Location": "/elsewhere", "Content-Length": "0"}), b"")

    from websockets.asyncio.server import serve

    async def unreached(_connection: ServerConnection) -> None:
        """Never reached."""

    async with serve(unreached, "127.0.0.1", 0, process_request=redirect) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        async with RelayClient(f"http://127.0.0.1:{port}") as client:
            with pytest.raises(RelayLost, match="302"):
                await client.connect(Device.generate())
    assert paths == ["/ws"]


async def test_a_relay_that_does_not_read_is_disconnected() -> None:
    class Stuck:
        async def send(self, _text: str) -> None:
            await asyncio.Event().wait()

    with pytest.raises(RelayLost, match="does not read"):
        await RelaySocket(Stuck(), send_seconds=0.01).pong()  # type: ignore[arg-type]


async def test_proxies_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "ws_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    async with FakeRelay() as relay, RelayClient(relay.origin) as client, await client.connect(Device.generate()):
        assert relay.peers == ["127.0.0.1"]


async def test_a_websocket_on_another_port_is_authenticated_for_the_origin() -> None:
    async with FakeRelay() as relay:
        address, relay.origin = relay.origin, ORIGIN
        async with RelayClient(ORIGIN, socket_url=address) as client:
            connection = await client.connect(Device.generate())
            async with connection:
                assert relay.peers == ["127.0.0.1"]


def pushing_one(number: int, devices: dict[str, Device]) -> Script:
    async def script(peer: Peer) -> None:
        key = await peer.welcome()
        device = devices[key.fingerprint]
        await peer.push(make_payload(SERVER, device.public, number=number), number)
        await peer.acknowledged(number)
        await peer.gone()

    return script


async def test_hundreds_of_devices_listen_in_one_process_without_threads() -> None:
    made = [Device.generate("Ed25519") for _ in range(300)]
    devices = {device.fingerprint: device for device in made}
    heard = [Heard() for _ in made]
    threads = threading.active_count()
    timing = ListenerTiming(clock=lambda: NOW)
    async with FakeRelay(*[pushing_one(number, devices) for number in range(1, 301)]) as relay:
        async with RelayClient(relay.origin, local_address="127.0.0.7") as client:
            listeners = [
                Listener(device, client, PIN, events, timing=timing) for device, events in zip(made, heard, strict=True)
            ]
            tasks = [asyncio.create_task(listener.run()) for listener in listeners]
            received = await asyncio.gather(*(events.until(Received) for events in heard))
            assert threading.active_count() == threads
            assert len({event.push_id for event in received}) == 300
            for listener in listeners:
                listener.stop()
            async with asyncio.timeout(GUARD_SECONDS):
                await asyncio.gather(*tasks)
        assert set(relay.peers) == {"127.0.0.7"}
    assert [events.of(Disconnected) for events in heard] == [[]] * 300
    assert push_id(300) in {event.push_id for event in received}


async def test_without_websockets_only_listening_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "websockets", None)
    monkeypatch.setitem(sys.modules, "websockets.asyncio.client", None)
    monkeypatch.delitem(sys.modules, "sigil.device.relay.socket", raising=False)
    async with RelayClient("http://127.0.0.1:1") as client:
        with pytest.raises(PackageMissing, match=r"pip install '\.\[cli\]' in a checkout"):
            await client.connect(Device.generate())


def test_no_other_command_imports_websockets() -> None:
    script = (
        "import sys; sys.modules['websockets'] = None\n"
        "from sigil.device.commands import device\n"
        "import sigil.device.relay\n"
        "assert {'pending', 'register', 'listen'} <= set(device.commands)"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=GUARD_SECONDS)
