"""Who may send a body, and who gives way when too many do."""

from __future__ import annotations

import asyncio
import ipaddress
from typing import Any

import pytest

from sigil.protocol.errors import Overloaded, PayloadTooLarge
from sigil.serving.http.asgi_edge import Body, BodyBroken, BodyTimeout, Edge, Receive, Send
from sigil.serving.http.body_admission import BodyAdmission
from sigil.serving.http.client_address import ClientAddresses


class Sender:
    """A client that sends its body piece by piece, when the test says so."""

    def __init__(self) -> None:
        self._events: asyncio.Queue[dict[str, object]] = asyncio.Queue()

    def send(self, piece: bytes, *, more: bool = False) -> None:
        self._events.put_nowait({"type": "http.request", "body": piece, "more_body": more})

    def go(self) -> None:
        self._events.put_nowait({"type": "http.disconnect"})

    async def receive(self) -> dict[str, object]:
        return await self._events.get()


async def begin(intake: BodyAdmission, address: str = "192.0.2.1") -> tuple[Sender, asyncio.Task[bytes]]:
    sender = Sender()
    task = asyncio.create_task(Body(sender.receive, intake, address).read(100))
    await asyncio.sleep(0)
    return sender, task


def age(intake: BodyAdmission) -> None:
    """As if every body that is being read had begun long ago."""
    for reader in intake._readers:
        reader.since -= 5


async def test_a_body_is_what_was_sent_in_pieces() -> None:
    sender, task = await begin(BodyAdmission())
    sender.send(b"one ", more=True)
    sender.send(b"two")
    assert await task == b"one two"


async def test_a_body_over_the_limit_is_refused_by_its_bytes_and_by_its_declared_length() -> None:
    sender, task = await begin(BodyAdmission())
    sender.send(b"x" * 60, more=True)
    sender.send(b"x" * 41)
    with pytest.raises(PayloadTooLarge):
        await task
    sender.send(b"x" * 101)
    with pytest.raises(PayloadTooLarge):
        await Body(sender.receive, BodyAdmission(), "").read(100, declared=101)


async def test_a_body_that_says_it_is_too_large_and_does_not_come_is_refused_all_the_same() -> None:
    sender = Sender()
    sender.send(b"x", more=True)
    with pytest.raises(PayloadTooLarge):
        await Body(sender.receive, BodyAdmission(), "").read(100, declared=10**10)


async def test_a_body_in_very_many_pieces_is_refused() -> None:
    sender = Sender()
    for _ in range(3000):
        sender.send(b" ", more=True)
    with pytest.raises(BodyBroken):
        await Body(sender.receive, BodyAdmission(), "").read(10_000)


async def test_a_body_that_is_too_large_is_read_to_its_end_so_that_the_answer_arrives() -> None:
    intake = BodyAdmission(most_bytes=1000)
    sender, task = await begin(intake)
    for _ in range(50):
        sender.send(b"x" * 100, more=True)
    await asyncio.sleep(0)
    assert not task.done()
    assert intake._held <= 100
    sender.send(b"")
    with pytest.raises(PayloadTooLarge):
        await task


async def test_a_body_without_end_is_not_read_without_end() -> None:
    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": b"x" * 65_536, "more_body": True}

    with pytest.raises(PayloadTooLarge):
        await Body(receive, BodyAdmission(), "").read(100)


async def test_a_body_that_breaks_off_is_an_error_of_the_client() -> None:
    sender, task = await begin(BodyAdmission())
    sender.send(b"half", more=True)
    sender.go()
    with pytest.raises(BodyBroken):
        await task


async def test_a_newcomer_takes_the_place_of_the_oldest_slow_body() -> None:
    intake = BodyAdmission(most=2)
    _, oldest = await begin(intake, "192.0.2.1")
    second_sender, second = await begin(intake, "192.0.2.2")
    age(intake)
    newcomer_sender, newcomer = await begin(intake, "192.0.2.3")
    with pytest.raises(BodyTimeout):
        await oldest
    second_sender.send(b"b")
    newcomer_sender.send(b"c")
    assert (await second, await newcomer) == (b"b", b"c")


async def test_when_nobody_is_slow_the_newcomer_is_refused_and_the_others_go_on() -> None:
    intake = BodyAdmission(most=1)
    sender, first = await begin(intake, "192.0.2.1")
    _, newcomer = await begin(intake, "192.0.2.2")
    with pytest.raises(Overloaded):
        await newcomer
    sender.send(b"a")
    assert await first == b"a"


async def test_one_address_cannot_take_all_places() -> None:
    intake = BodyAdmission(most=10, most_of_one=2)
    held = [await begin(intake, "192.0.2.1") for _ in range(2)]
    _, third = await begin(intake, "192.0.2.1")
    with pytest.raises(Overloaded):
        await third
    sender, other = await begin(intake, "192.0.2.2")
    sender.send(b"other")
    assert await other == b"other"
    for held_sender, task in held:
        held_sender.send(b"done")
        assert await task == b"done"


async def test_the_oldest_slow_body_of_a_full_address_gives_way() -> None:
    intake = BodyAdmission(most=10, most_of_one=2)
    _, foreign = await begin(intake, "192.0.2.2")
    _, oldest = await begin(intake, "192.0.2.1")
    second_sender, second = await begin(intake, "192.0.2.1")
    age(intake)
    newcomer_sender, newcomer = await begin(intake, "192.0.2.1")
    with pytest.raises(BodyTimeout):
        await oldest
    second_sender.send(b"b")
    newcomer_sender.send(b"c")
    assert (await second, await newcomer) == (b"b", b"c")
    assert not foreign.done()
    foreign.cancel()


class Arrivals:
    """Requests with a body that come to an edge behind the proxy 10.0.0.1, which is trusted."""

    def __init__(self, intake: BodyAdmission) -> None:
        trusted = [ipaddress.ip_network("10.0.0.1")]
        self._edge = Edge(self._app, intake, ClientAddresses(trusted, on_untrusted=lambda peer: None))

    async def _app(self, scope: dict[str, Any], _receive: Receive, _send: Send) -> None:
        await scope["sigil.body"].read()

    def arrive(self, peer: str, forwarded: str | None = None) -> tuple[Sender, asyncio.Task[None]]:
        headers = [] if forwarded is None else [(b"x-forwarded-for", forwarded.encode())]
        scope = {"type": "http", "http_version": "2", "headers": headers, "client": (peer, 50_000)}
        sender = Sender()
        return sender, asyncio.create_task(self._edge(scope, sender.receive, _nobody))


async def _nobody(_event: dict[str, Any]) -> None: ...


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
    ids=["one IPv6 network", "one client of a trusted proxy", "one peer that says it is many"],
)
async def test_places_are_those_of_a_client(full: list[tuple[str, ...]], another: tuple[str, ...]) -> None:
    arrivals = Arrivals(BodyAdmission(most_of_one=2))
    held = [arrivals.arrive(*client) for client in full[:2]]
    _, refused = arrivals.arrive(*full[2])
    with pytest.raises(Overloaded):
        await asyncio.wait_for(refused, 60)
    for sender, task in [arrivals.arrive(*another), *held]:
        sender.send(b"done")
        await asyncio.wait_for(task, 60)


async def test_when_unfinished_bodies_are_too_large_together_the_oldest_is_cut_off() -> None:
    intake = BodyAdmission(most_bytes=100)
    hoarder, hoarding = await begin(intake, "192.0.2.1")
    hoarder.send(b"x" * 80, more=True)
    await asyncio.sleep(0)
    sender, task = await begin(intake, "192.0.2.2")
    sender.send(b"x" * 30, more=True)
    sender.send(b"end")
    assert await task == b"x" * 30 + b"end"
    with pytest.raises(BodyTimeout):
        await hoarding


async def test_places_and_bytes_come_back() -> None:
    intake = BodyAdmission(most=1, most_of_one=1, most_bytes=50)
    for _ in range(5):
        sender, task = await begin(intake)
        sender.send(b"x" * 40, more=True)
        sender.send(b"")
        await task
    assert (intake._held, len(intake._readers), len(intake._of)) == (0, 0, 0)
