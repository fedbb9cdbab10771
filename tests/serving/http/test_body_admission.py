"""Which request bodies are read, and which are evicted when there are too many."""

from __future__ import annotations

import asyncio
import ipaddress
import time
from typing import Any

import pytest

from sigil.protocol.errors import Overloaded, PayloadTooLarge
from sigil.serving.http import body_admission
from sigil.serving.http.asgi_edge import AsgiEdge, Body, BodyBroken, BodyTimeout, Receive, Send
from sigil.serving.http.body_admission import BodyAdmission
from sigil.serving.http.client_address import ClientAddresses


class Sender:
    """A client that sends its body piece by piece, when the test says so."""

    def __init__(self) -> None:
        self._events: asyncio.Queue[dict[str, object]] = asyncio.Queue()

    def send(self, piece: bytes, *, more: bool = False) -> None:
        self._events.put_nowait({"type": "http.request", "body": piece, "more_body": more})

    def disconnect(self) -> None:
        self._events.put_nowait({"type": "http.disconnect"})

    async def receive(self) -> dict[str, object]:
        return await self._events.get()


async def start_body(admission: BodyAdmission, address: str = "192.0.2.1") -> tuple[Sender, asyncio.Task[bytes]]:
    sender = Sender()
    task = asyncio.create_task(Body(sender.receive, admission, address).read(100))
    await asyncio.sleep(0)
    return sender, task


def make_slow(admission: BodyAdmission) -> None:
    """As if every body that is being read had started long ago."""
    for body in admission._bodies:
        body.since -= 5


async def test_the_pieces_of_a_body_are_joined() -> None:
    sender, task = await start_body(BodyAdmission())
    sender.send(b"one ", more=True)
    sender.send(b"two")
    assert await task == b"one two"


async def test_a_body_over_the_limit_is_rejected_by_its_bytes_and_by_its_declared_length() -> None:
    sender, task = await start_body(BodyAdmission())
    sender.send(b"x" * 60, more=True)
    sender.send(b"x" * 41)
    with pytest.raises(PayloadTooLarge):
        await task
    sender.send(b"x" * 101)
    with pytest.raises(PayloadTooLarge):
        await Body(sender.receive, BodyAdmission(), "").read(100, declared=101)


async def test_a_body_that_declares_too_large_a_length_and_does_not_arrive_is_rejected() -> None:
    sender = Sender()
    sender.send(b"x", more=True)
    with pytest.raises(PayloadTooLarge):
        await Body(sender.receive, BodyAdmission(), "").read(100, declared=10**10)


async def test_a_body_in_too_many_pieces_is_rejected() -> None:
    sender = Sender()
    for _ in range(3000):
        sender.send(b" ", more=True)
    with pytest.raises(BodyBroken):
        await Body(sender.receive, BodyAdmission(), "").read(10_000)


async def test_a_body_that_is_too_large_is_read_to_its_end_so_that_the_response_arrives() -> None:
    admission = BodyAdmission(max_bytes=1000)
    sender, task = await start_body(admission)
    for _ in range(50):
        sender.send(b"x" * 100, more=True)
    await asyncio.sleep(0)
    assert not task.done()
    assert admission._held <= 100
    sender.send(b"")
    with pytest.raises(PayloadTooLarge):
        await task


async def test_an_endless_body_is_not_read_for_ever() -> None:
    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": b"x" * 65_536, "more_body": True}

    with pytest.raises(PayloadTooLarge):
        await Body(receive, BodyAdmission(), "").read(100)


async def test_a_body_that_breaks_off_is_an_error_of_the_client() -> None:
    sender, task = await start_body(BodyAdmission())
    sender.send(b"half", more=True)
    sender.disconnect()
    with pytest.raises(BodyBroken):
        await task


async def test_a_new_body_evicts_the_oldest_slow_body() -> None:
    admission = BodyAdmission(max_bodies=2)
    _, oldest = await start_body(admission, "192.0.2.1")
    second_sender, second = await start_body(admission, "192.0.2.2")
    make_slow(admission)
    new_sender, new = await start_body(admission, "192.0.2.3")
    with pytest.raises(BodyTimeout):
        await oldest
    second_sender.send(b"b")
    new_sender.send(b"c")
    assert (await second, await new) == (b"b", b"c")


async def test_a_worker_that_stood_still_does_not_evict_the_bodies_that_it_could_not_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(body_admission, "BODY_SECONDS", 0.3)
    monkeypatch.setattr(body_admission, "_SLOW_SECONDS", 0.05)
    sender, task = await start_body(BodyAdmission())
    time.sleep(0.5)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    sender.send(b"whole")
    assert await task == b"whole"


async def test_a_body_that_does_not_arrive_in_time_is_evicted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body_admission, "BODY_SECONDS", 0.3)
    monkeypatch.setattr(body_admission, "_SLOW_SECONDS", 0.05)
    _, task = await start_body(BodyAdmission())
    with pytest.raises(BodyTimeout):
        await task


async def test_when_no_body_is_slow_the_new_one_is_rejected() -> None:
    admission = BodyAdmission(max_bodies=1)
    sender, first = await start_body(admission, "192.0.2.1")
    _, new = await start_body(admission, "192.0.2.2")
    with pytest.raises(Overloaded):
        await new
    sender.send(b"a")
    assert await first == b"a"


async def test_one_address_cannot_occupy_all_slots() -> None:
    admission = BodyAdmission(max_bodies=10, max_per_address=2)
    held = [await start_body(admission, "192.0.2.1") for _ in range(2)]
    _, third = await start_body(admission, "192.0.2.1")
    with pytest.raises(Overloaded):
        await third
    sender, other = await start_body(admission, "192.0.2.2")
    sender.send(b"other")
    assert await other == b"other"
    for held_sender, task in held:
        held_sender.send(b"done")
        assert await task == b"done"


async def test_at_the_limit_of_an_address_its_oldest_slow_body_is_evicted() -> None:
    admission = BodyAdmission(max_bodies=10, max_per_address=2)
    _, other = await start_body(admission, "192.0.2.2")
    _, oldest = await start_body(admission, "192.0.2.1")
    second_sender, second = await start_body(admission, "192.0.2.1")
    make_slow(admission)
    new_sender, new = await start_body(admission, "192.0.2.1")
    with pytest.raises(BodyTimeout):
        await oldest
    second_sender.send(b"b")
    new_sender.send(b"c")
    assert (await second, await new) == (b"b", b"c")
    assert not other.done()
    other.cancel()


class EdgeRequests:
    """Requests with a body that arrive at an edge; it trusts the proxy 10.0.0.1."""

    def __init__(self, admission: BodyAdmission) -> None:
        trusted = [ipaddress.ip_network("10.0.0.1")]
        self._edge = AsgiEdge(self._app, admission, ClientAddresses(trusted, warn=lambda event, peer: None))

    async def _app(self, scope: dict[str, Any], _receive: Receive, _send: Send) -> None:
        await scope["sigil.body"].read()

    def send(self, peer: str, forwarded: str | None = None) -> tuple[Sender, asyncio.Task[None]]:
        headers = [] if forwarded is None else [(b"x-forwarded-for", forwarded.encode())]
        scope = {
            "type": "http",
            "http_version": "2",
            "raw_path": b"/",
            "path": "/",
            "headers": headers,
            "client": (peer, 50_000),
        }
        sender = Sender()
        return sender, asyncio.create_task(self._edge(scope, sender.receive, _discard))


async def _discard(_event: dict[str, Any]) -> None: ...


@pytest.mark.parametrize(
    ("full", "another"),
    [
        ([("2001:db8::1",), ("2001:db8::2",), ("2001:db8::3",)], ("2001:db8:0:1::1",)),
        (
            [("10.0.0.1", "192.0.2.1"), ("10.0.0.1", "198.51.100.1, 192.0.2.1"), ("192.0.2.1",)],
            ("10.0.0.1", "192.0.2.2"),
        ),
        ([("192.0.2.1", "192.0.2.2"), ("192.0.2.1", "192.0.2.3"), ("192.0.2.1",)], ("10.0.0.1", "192.0.2.2")),
    ],
    ids=["one IPv6 network", "one client of a trusted proxy", "one peer that forges many addresses"],
)
async def test_slots_are_counted_per_client(full: list[tuple[str, ...]], another: tuple[str, ...]) -> None:
    requests = EdgeRequests(BodyAdmission(max_per_address=2))
    held = [requests.send(*client) for client in full[:2]]
    _, rejected = requests.send(*full[2])
    with pytest.raises(Overloaded):
        await asyncio.wait_for(rejected, 60)
    for sender, task in [requests.send(*another), *held]:
        sender.send(b"done")
        await asyncio.wait_for(task, 60)


async def test_when_unfinished_bodies_are_too_large_in_total_the_oldest_is_evicted() -> None:
    admission = BodyAdmission(max_bytes=100)
    large_sender, large = await start_body(admission, "192.0.2.1")
    large_sender.send(b"x" * 80, more=True)
    await asyncio.sleep(0)
    sender, task = await start_body(admission, "192.0.2.2")
    sender.send(b"x" * 30, more=True)
    sender.send(b"end")
    assert await task == b"x" * 30 + b"end"
    with pytest.raises(BodyTimeout):
        await large


async def test_slots_and_bytes_are_released() -> None:
    admission = BodyAdmission(max_bodies=1, max_per_address=1, max_bytes=50)
    for _ in range(5):
        sender, task = await start_body(admission)
        sender.send(b"x" * 40, more=True)
        sender.send(b"")
        await task
    assert (admission._held, len(admission._bodies), len(admission._per_address)) == (0, 0, 0)


async def test_an_ipv6_site_has_half_of_the_slots_and_evicts_its_own_slow_bodies() -> None:
    admission = BodyAdmission(max_bodies=4, max_per_address=2, max_per_site=2)
    tasks = [await start_body(admission, f"2001:db8:1:{number}::") for number in range(2)]
    with pytest.raises(Overloaded):
        await (await start_body(admission, "2001:db8:1:9::"))[1]
    tasks += [await start_body(admission, address) for address in ("2001:db8:2::", "192.0.2.1")]
    make_slow(admission)
    tasks.append(await start_body(admission, "2001:db8:1:9::"))
    with pytest.raises(BodyTimeout):
        await tasks[0][1]
    for sender, task in tasks[1:]:
        sender.send(b"x")
        assert await task == b"x"
    assert not admission._per_site


async def test_a_site_over_its_limit_evicts_no_slow_body_of_another_client() -> None:
    admission = BodyAdmission(max_bodies=4, max_per_address=2, max_per_site=2)
    others = [await start_body(admission, address) for address in ("192.0.2.1", "192.0.2.2")]
    make_slow(admission)
    _site = [await start_body(admission, f"2001:db8:1:{number}::") for number in range(2)]
    with pytest.raises(Overloaded):
        await (await start_body(admission, "2001:db8:1:9::"))[1]
    for sender, task in others:
        sender.send(b"x")
        assert await task == b"x"
