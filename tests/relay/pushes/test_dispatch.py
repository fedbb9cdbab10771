"""Each provider has its own room in a worker, and each push one outcome, over a real registry."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from relay.pushes.bulkhead import Bulkhead
from relay.pushes.dispatch import MAX_FAILURES, Dispatch
from relay.registry.model import SEEN_EVERY_SECONDS, Device, NewPush, Platform, Push
from relay.registry.rules import Rate
from relay.registry.sealing import Sealer
from relay.registry.sqlite.registry import SqliteRegistry
from relay.transports import Load, Outcome, OutgoingPush
from tests.support.live import DEADLINE

SERVER = hashlib.sha256(b"server").digest()
AT_ONCE, IN_LINE = 2, 3


class Provider:
    """Says `says` when `go` is set; counts who is inside."""

    def __init__(self) -> None:
        self.says: Outcome | Exception = Outcome("delivered")
        self.go = asyncio.Event()
        self.go.set()
        self.inside = self.most_inside = 0
        self.sent: Counter[str] = Counter()
        self.closed = False

    def open(self) -> None: ...

    def load(self) -> Load:
        return Load(1, self.inside)

    async def send(self, letter: OutgoingPush) -> Outcome:
        self.inside += 1
        self.most_inside = max(self.most_inside, self.inside)
        try:
            await self.go.wait()
            self.sent[letter.token] += 1
            if isinstance(self.says, Exception):
                raise self.says
            return self.says
        finally:
            self.inside -= 1

    async def close(self) -> None:
        self.closed = True


@dataclass
class News:
    attempts: Counter[tuple[str, str]] = field(default_factory=Counter)
    evictions: Counter[str] = field(default_factory=Counter)
    loads: dict[str, tuple[Load, int]] = field(default_factory=dict)

    def attempt(self, provider: str, status: str, seconds: float) -> None:
        self.attempts[provider, status] += 1

    def token_age(self, provider: str, seconds: float) -> None: ...

    def evicted(self, reason: str, count: int = 1) -> None:
        self.evictions[reason] += count

    def load(self, provider: str, load: Load, pushes: int) -> None:
        self.loads[provider] = (load, pushes)


class Clock:
    """Goes on by itself, and ahead when told."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead


class Desk:
    """A dispatch over a registry in a file, with two providers."""

    def __init__(self, path: Path) -> None:
        self.registry = SqliteRegistry(path)
        self.sealer = Sealer([])
        self.apns, self.fcm = Provider(), Provider()
        self.news, self.clock = News(), Clock()
        self.dispatch = Dispatch(
            registry=self.registry,
            sealer=self.sealer,
            transports={"apns": self.apns, "fcm": self.fcm},
            clock=self.clock,
            observer=self.news,
            bulkhead=lambda: Bulkhead(AT_ONCE, IN_LINE),
        )

    async def admitted(self, platform: Platform, count: int, *, lives: float = 300) -> list[tuple[Push, Device]]:
        """So many pushes, each to a device of its own, as `POST /push` has them."""
        now, pushes = self.clock(), []
        for number in range(count):
            fingerprint = hashlib.sha256(f"{platform} {number} {now}".encode()).digest()
            token = self.sealer.seal("token", fingerprint, platform, f"{platform}-{number}".encode())
            await self.registry.register(Device(fingerprint, b"key", platform, token, int(now)))
            payload = self.sealer.seal("payload", fingerprint, "", b'{"type":"challenge"}')
            key = f"{fingerprint.hex()}"
            pushes.append(NewPush(fingerprint[:16], key, fingerprint, payload, int(now + lives)))
        answers = await self.registry.admit(SERVER, pushes, now, Rate(0))
        return [
            (Push(SERVER, push, platform, created_at=now), answer.device)
            for push, answer in zip(pushes, answers, strict=True)
            if answer.device is not None
        ]

    async def statuses(self, admitted: list[tuple[Push, Device]]) -> Counter[tuple[str, str | None]]:
        found = await self.registry.outcomes(SERVER, [push.push.push_key for push, _ in admitted])
        return Counter((one.status, one.error) for one in found if one is not None)


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    desk = Desk(tmp_path / "relay.db")
    await desk.registry.open(lambda channel, data: None)
    try:
        yield desk
        desk.dispatch.report_load()
        assert {provider: pushes for provider, (_, pushes) in desk.news.loads.items()} == {"apns": 0, "fcm": 0}
        assert (desk.apns.inside, desk.fcm.inside) == (0, 0)
    finally:
        await desk.dispatch.close()
        await desk.registry.close()
    assert desk.apns.closed
    assert desk.fcm.closed


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(DEADLINE):
        while not await condition():
            await asyncio.sleep(0.01)


async def test_a_provider_that_hangs_takes_its_own_room_and_no_more(desk: Desk) -> None:
    desk.apns.go.clear()
    slow, quick = await desk.admitted("apns", 12), await desk.admitted("fcm", 5)
    began = asyncio.create_task(desk.dispatch.deliver(slow, 60))
    await until(_true_of(lambda: desk.apns.inside == AT_ONCE))
    assert set((await desk.dispatch.deliver(quick, 60)).keys()) == {push.push.push_key for push, _ in quick}
    assert await desk.statuses(quick) == {("delivered", None): 5}
    busy = 12 - AT_ONCE - IN_LINE
    await until(_equal(lambda: desk.statuses(slow), {("queued", None): 5, ("queued", "provider_busy"): busy}))
    assert desk.apns.most_inside == AT_ONCE
    assert not await desk.dispatch.retry(100)
    desk.apns.go.set()
    await began
    assert await desk.statuses(slow) == {("delivered", None): 5, ("queued", "provider_busy"): busy}
    desk.clock.ahead += 3

    async def all_delivered() -> bool:
        await desk.dispatch.retry(100)
        return await desk.statuses(slow) == {("delivered", None): 12}

    await until(all_delivered)
    assert set(desk.apns.sent.values()) == {1}
    assert desk.news.attempts == {("apns", "delivered"): 12, ("fcm", "delivered"): 5}


def _true_of(condition: Callable[[], bool]) -> Callable[[], Awaitable[bool]]:
    async def asked() -> bool:
        return condition()

    return asked


def _equal(ask: Callable[[], Awaitable[object]], wanted: object) -> Callable[[], Awaitable[bool]]:
    async def asked() -> bool:
        return await ask() == wanted

    return asked


async def test_the_backlog_of_a_provider_that_hangs_starves_nobody(desk: Desk) -> None:
    """Also of pushes that are due again: a batch of one provider's leaves the other's where they are."""
    desk.apns.go.clear()
    slow, quick = await desk.admitted("apns", 30), await desk.admitted("fcm", 4)
    desk.clock.ahead += 31
    assert await desk.dispatch.retry(200) is True
    await until(_equal(lambda: desk.statuses(quick), {("delivered", None): 4}))
    assert await desk.dispatch.retry(200) is False
    desk.apns.go.set()

    async def all_delivered() -> bool:
        await desk.dispatch.retry(200)
        return await desk.statuses(slow) == {("delivered", None): 30}

    await until(all_delivered)


async def test_an_attempt_ends_with_the_life_of_its_push(desk: Desk) -> None:
    desk.apns.go.clear()
    admitted = await desk.admitted("apns", 4, lives=2)
    decided = await desk.dispatch.deliver(admitted, 60)
    assert [(one.status, one.error) for one in decided.values()] == [("failed", "timeout")] * 4
    assert await desk.statuses(admitted) == {("failed", "timeout"): 4}
    assert desk.apns.sent == {}
    assert desk.news.attempts == {("apns", "failed"): 4}
    desk.apns.go.set()


async def test_a_transport_that_breaks_costs_one_attempt_and_no_room(desk: Desk) -> None:
    desk.apns.says = RuntimeError("a secret that nobody should read")
    admitted = await desk.admitted("apns", AT_ONCE + IN_LINE)
    await desk.dispatch.deliver(admitted, 60)
    assert await desk.statuses(admitted) == {("queued", "internal"): AT_ONCE + IN_LINE}
    desk.apns.says = Outcome("delivered")
    desk.clock.ahead += 40
    await desk.dispatch.retry(100)
    await until(_equal(lambda: desk.statuses(admitted), {("delivered", None): AT_ONCE + IN_LINE}))


async def test_closing_cancels_what_does_not_end_and_leaves_it_to_its_lease(desk: Desk) -> None:
    desk.apns.go.clear()
    admitted = await desk.admitted("apns", 4)
    delivering = asyncio.create_task(desk.dispatch.deliver(admitted, 60))
    await until(_true_of(lambda: desk.apns.inside == AT_ONCE))
    await desk.dispatch.close()
    assert await delivering == {}
    assert await desk.statuses(admitted) == {("queued", None): 4}


async def test_failures_in_a_row_evict_while_the_provider_takes_others(desk: Desk) -> None:
    (odd,) = await desk.admitted("fcm", 1)
    desk.fcm.says = Outcome("refused", "INVALID_ARGUMENT", counts_against_token=True)
    for _ in range(2 * MAX_FAILURES):
        await desk.dispatch.deliver([odd], 60)
    assert desk.news.evictions == {}, "nothing was ever delivered: the fault may be ours"
    desk.fcm.says = Outcome("delivered")
    await desk.dispatch.deliver(await desk.admitted("fcm", 1), 60)
    desk.fcm.says = Outcome("refused", "INVALID_ARGUMENT", counts_against_token=True)
    for _ in range(MAX_FAILURES - 1):
        await desk.dispatch.deliver([odd], 60)
    assert desk.news.evictions == {}
    await desk.dispatch.deliver([odd], 60)
    assert desk.news.evictions == {"failing": 1}


async def test_a_delivery_ends_the_row_of_failures_and_counts_as_a_sign_of_life(desk: Desk) -> None:
    ((push, device),) = await desk.admitted("fcm", 1)
    await desk.registry.record_failure(device.fingerprint, device.token)
    failing = await desk.registry.device(device.fingerprint)
    assert failing is not None
    desk.clock.ahead += SEEN_EVERY_SECONDS + 1
    await desk.dispatch.deliver([(push, failing)], 60)
    after = await desk.registry.device(device.fingerprint)
    assert after is not None
    assert (after.failures, after.seen_at > failing.seen_at + SEEN_EVERY_SECONDS) == (0, True)


@pytest.mark.parametrize(("older_by", "evictions"), [(10, {}), (-10, {"Unregistered": 1})])
async def test_only_what_died_after_it_was_registered_is_evicted(
    desk: Desk, older_by: float, evictions: dict[str, int]
) -> None:
    ((push, device),) = await desk.admitted("apns", 1)
    desk.apns.says = Outcome("gone", "Unregistered", since=device.registered_at - older_by)
    await desk.dispatch.deliver([(push, device)], 60)
    assert desk.news.evictions == evictions
    status = "token_evicted" if evictions else "failed"
    assert await desk.statuses([(push, device)]) == {(status, "Unregistered"): 1}


async def overtaken(desk: Desk, platform: Platform, token: str) -> list[tuple[Push, Device]]:
    """A push to APNs that is under way when its device registers anew, in the same second; then APNs answers."""
    desk.apns.go.clear()
    admitted = await desk.admitted("apns", 1)
    ((_, device),) = admitted
    delivering = asyncio.create_task(desk.dispatch.deliver(admitted, 60))
    await until(_true_of(lambda: desk.apns.inside == 1))
    sealed = desk.sealer.seal("token", device.fingerprint, platform, token.encode())
    await desk.registry.register(Device(device.fingerprint, b"key", platform, sealed, device.registered_at))
    desk.apns.go.set()
    await delivering
    return admitted


GONE = Outcome("gone", "BadDeviceToken")
BLAMED = Outcome("refused", "INVALID_ARGUMENT", counts_against_token=True)


@pytest.mark.parametrize("says", [GONE, BLAMED])
async def test_what_is_said_of_a_former_token_costs_neither_the_new_one_nor_the_push(desk: Desk, says: Outcome) -> None:
    await desk.dispatch.deliver(await desk.admitted("apns", 1), 60)
    desk.apns.says = says
    admitted = await overtaken(desk, "apns", "new")
    assert await desk.statuses(admitted) == {("queued", says.error): 1}
    assert desk.news.attempts["apns", "queued"] == 1
    desk.apns.says = Outcome("delivered")
    await desk.dispatch.retry(100)
    await until(_equal(lambda: desk.statuses(admitted), {("delivered", None): 1}))
    assert desk.apns.sent["new"] == 1
    assert desk.news.evictions == {}
    registered = await desk.registry.device(admitted[0][1].fingerprint)
    assert registered is not None
    assert (registered.evicted, registered.failures) == (None, 0)


async def test_a_push_that_follows_its_device_to_a_websocket_waits_there_whatever_becomes_of_the_token(
    desk: Desk,
) -> None:
    desk.apns.says = GONE
    ((push, device),) = await overtaken(desk, "websocket", "")
    (held,) = await desk.registry.pending_for([device.fingerprint], desk.clock())
    assert (held.push.push_id, held.push.payload) == (push.push.push_id, push.push.payload)
    assert desk.news.evictions == {}
