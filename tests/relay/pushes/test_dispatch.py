"""Each provider has its own bulkhead, and each push one outcome, over a real registry."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from msgspec.structs import replace

from relay.pushes.bulkhead import Bulkhead
from relay.pushes.dispatch import MAX_FAILURES, Dispatch
from relay.registry.model import SEEN_EVERY_SECONDS, Device, NewPush, Platform, Push, RegistryBusy
from relay.registry.rules import Rate
from relay.registry.sealing import Sealer
from relay.registry.sqlite.registry import SqliteRegistry
from relay.transports import Load, Outcome, OutgoingPush
from tests.support.live import DEADLINE

SERVER = hashlib.sha256(b"server").digest()
MAX_CONCURRENT, MAX_QUEUED = 2, 8
FOR_ONE_SERVER = (MAX_CONCURRENT + MAX_QUEUED) // 2


class Provider:
    """Returns or raises `result` when `released` is set; counts the calls in flight."""

    def __init__(self) -> None:
        self.result: Outcome | Exception = Outcome("delivered")
        self.released = asyncio.Event()
        self.released.set()
        self.in_flight = self.max_in_flight = 0
        self.sent: Counter[str] = Counter()
        self.closed = False

    def open(self) -> None: ...

    def load(self) -> Load:
        return Load(1, self.in_flight)

    async def send(self, push: OutgoingPush) -> Outcome:
        self.in_flight += 1
        self.max_in_flight = max(self.max_in_flight, self.in_flight)
        try:
            await self.released.wait()
            self.sent[push.token] += 1
            if isinstance(self.result, Exception):
                raise self.result
            return self.result
        finally:
            self.in_flight -= 1

    async def close(self) -> None:
        self.closed = True


@dataclass
class Observer:
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
    """The real time, plus `ahead`."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead


class Setup:
    """A dispatch over a registry in a file, with two providers."""

    def __init__(self, path: Path) -> None:
        self.registry = SqliteRegistry(path)
        self.sealer = Sealer([])
        self.apns, self.fcm = Provider(), Provider()
        self.observer, self.clock = Observer(), Clock()
        self.dispatch = Dispatch(
            registry=self.registry,
            sealer=self.sealer,
            transports={"apns": self.apns, "fcm": self.fcm},
            clock=self.clock,
            observer=self.observer,
            bulkhead=lambda: Bulkhead(MAX_CONCURRENT, MAX_QUEUED),
        )

    async def admitted(
        self, platform: Platform, count: int, *, lifetime: float = 300, server: bytes = SERVER
    ) -> list[tuple[Push, Device]]:
        """So many pushes, each to a device of its own, admitted as by `POST /push`."""
        now, pushes = self.clock(), []
        for number in range(count):
            fingerprint = hashlib.sha256(f"{platform} {number} {now}".encode()).digest()
            token = self.sealer.seal("token", fingerprint, platform, f"{platform}-{number}".encode())
            await self.registry.register(Device(fingerprint, b"key", platform, token, int(now)))
            payload = self.sealer.seal("payload", fingerprint, "", b'{"type":"challenge"}')
            key = f"{fingerprint.hex()}"
            pushes.append(NewPush(fingerprint[:16], key, fingerprint, payload, int(now + lifetime)))
        answers = await self.registry.admit(server, pushes, now, Rate(0))
        return [
            (Push(server, push, platform, created_at=now), answer.device)
            for push, answer in zip(pushes, answers, strict=True)
            if answer.device is not None
        ]

    async def statuses(self, admitted: list[tuple[Push, Device]]) -> Counter[tuple[str, str | None]]:
        found = await self.registry.outcomes(SERVER, [push.push.push_key for push, _ in admitted])
        return Counter((one.status, one.error) for one in found if one is not None)


@pytest.fixture
async def setup(tmp_path: Path) -> AsyncIterator[Setup]:
    setup = Setup(tmp_path / "relay.db")
    await setup.registry.open(lambda channel, data: None)
    try:
        yield setup
        setup.dispatch.report_load()
        assert {provider: pushes for provider, (_, pushes) in setup.observer.loads.items()} == {"apns": 0, "fcm": 0}
        assert (setup.apns.in_flight, setup.fcm.in_flight) == (0, 0)
    finally:
        await setup.dispatch.close()
        await setup.registry.close()
    assert setup.apns.closed
    assert setup.fcm.closed


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(DEADLINE):
        while not await condition():
            await asyncio.sleep(0.01)


async def test_a_provider_that_hangs_uses_up_its_own_bulkhead_only(setup: Setup) -> None:
    setup.apns.released.clear()
    slow, quick = await setup.admitted("apns", 12), await setup.admitted("fcm", 5)
    began = asyncio.create_task(setup.dispatch.deliver(slow, 60))
    await until(_true_of(lambda: setup.apns.in_flight == MAX_CONCURRENT))
    assert set((await setup.dispatch.deliver(quick, 60)).keys()) == {push.push.push_key for push, _ in quick}
    assert await setup.statuses(quick) == {("delivered", None): 5}
    busy = 12 - FOR_ONE_SERVER
    await until(_equal(lambda: setup.statuses(slow), {("queued", None): 5, ("queued", "provider_busy"): busy}))
    assert setup.apns.max_in_flight == MAX_CONCURRENT
    assert not await setup.dispatch.retry(100)
    setup.apns.released.set()
    await began
    assert await setup.statuses(slow) == {("delivered", None): 5, ("queued", "provider_busy"): busy}
    setup.clock.ahead += 3

    async def all_delivered() -> bool:
        await setup.dispatch.retry(100)
        return await setup.statuses(slow) == {("delivered", None): 12}

    await until(all_delivered)
    assert set(setup.apns.sent.values()) == {1}
    assert setup.observer.attempts == {("apns", "delivered"): 12, ("fcm", "delivered"): 5}


def _true_of(condition: Callable[[], bool]) -> Callable[[], Awaitable[bool]]:
    async def check() -> bool:
        return condition()

    return check


def _equal(read: Callable[[], Awaitable[object]], wanted: object) -> Callable[[], Awaitable[bool]]:
    async def check() -> bool:
        return await read() == wanted

    return check


async def test_the_queue_of_one_server_does_not_stop_the_pushes_of_another(setup: Setup) -> None:
    other = hashlib.sha256(b"another server").digest()
    setup.apns.released.clear()
    many, one = await setup.admitted("apns", 40), await setup.admitted("apns", 1, server=other)
    setup.clock.ahead += 31
    while await setup.dispatch.retry(200):
        pass
    setup.dispatch.report_load()
    # The claim took pushes of both servers, although 40 were due before the one.
    found = await setup.registry.outcomes(other, [push.push.push_key for push, _ in one])
    assert [(push.attempts, push.error) for push in found if push] == [(1, None)]
    began = asyncio.create_task(setup.dispatch.deliver(await setup.admitted("apns", 1, server=other), 60))
    setup.apns.released.set()
    async with asyncio.timeout(DEADLINE):
        assert [outcome.status for outcome in (await began).values()] == ["delivered"]

    async def all_delivered() -> bool:
        setup.clock.ahead += 3
        await setup.dispatch.retry(200)
        return await setup.statuses(many) == {("delivered", None): 40}

    await until(all_delivered)


async def test_the_backlog_of_a_provider_that_hangs_does_not_delay_the_other(setup: Setup) -> None:
    """This holds for retries too: a batch contains pushes of one provider only."""
    setup.apns.released.clear()
    slow, quick = await setup.admitted("apns", 30), await setup.admitted("fcm", 4)
    setup.clock.ahead += 31
    assert await setup.dispatch.retry(200) is True
    await until(_equal(lambda: setup.statuses(quick), {("delivered", None): 4}))
    assert await setup.dispatch.retry(200) is False
    setup.apns.released.set()

    async def all_delivered() -> bool:
        await setup.dispatch.retry(200)
        return await setup.statuses(slow) == {("delivered", None): 30}

    await until(all_delivered)


async def test_an_attempt_ends_when_its_push_expires(setup: Setup) -> None:
    setup.apns.released.clear()
    admitted = await setup.admitted("apns", 4, lifetime=2)
    decided = await setup.dispatch.deliver(admitted, 60)
    assert [(one.status, one.error) for one in decided.values()] == [("failed", "timeout")] * 4
    assert await setup.statuses(admitted) == {("failed", "timeout"): 4}
    assert setup.apns.sent == {}
    assert setup.observer.attempts == {("apns", "failed"): 4}
    setup.apns.released.set()


async def test_a_transport_that_raises_costs_one_attempt_and_no_capacity(setup: Setup) -> None:
    setup.apns.result = RuntimeError("a secret")
    admitted = await setup.admitted("apns", FOR_ONE_SERVER)
    await setup.dispatch.deliver(admitted, 60)
    assert await setup.statuses(admitted) == {("queued", "internal"): FOR_ONE_SERVER}
    setup.apns.result = Outcome("delivered")
    setup.clock.ahead += 40
    await setup.dispatch.retry(100)
    await until(_equal(lambda: setup.statuses(admitted), {("delivered", None): FOR_ONE_SERVER}))


async def test_closing_cancels_attempts_and_leaves_their_pushes_queued(setup: Setup) -> None:
    setup.apns.released.clear()
    admitted = await setup.admitted("apns", 4)
    delivering = asyncio.create_task(setup.dispatch.deliver(admitted, 60))
    await until(_true_of(lambda: setup.apns.in_flight == MAX_CONCURRENT))
    await setup.dispatch.close()
    assert await delivering == {}
    assert await setup.statuses(admitted) == {("queued", None): 4}


async def test_failures_in_a_row_evict_a_token_if_the_provider_accepts_other_pushes(setup: Setup) -> None:
    (odd,) = await setup.admitted("fcm", 1)
    setup.fcm.result = Outcome("refused", "INVALID_ARGUMENT", counts_against_token=True)
    for _ in range(2 * MAX_FAILURES):
        await setup.dispatch.deliver([odd], 60)
    assert setup.observer.evictions == {}, "nothing was ever delivered: the relay may be the cause"
    setup.fcm.result = Outcome("delivered")
    await setup.dispatch.deliver(await setup.admitted("fcm", 1), 60)
    setup.fcm.result = Outcome("refused", "INVALID_ARGUMENT", counts_against_token=True)
    for _ in range(MAX_FAILURES - 1):
        await setup.dispatch.deliver([odd], 60)
    assert setup.observer.evictions == {}
    await setup.dispatch.deliver([odd], 60)
    assert setup.observer.evictions == {"failing": 1}


async def test_a_clock_that_is_set_back_does_not_prove_that_the_provider_accepts_pushes(setup: Setup) -> None:
    """Else a fault of the relay's credentials would evict the tokens of all devices, until that time comes again."""
    (odd,) = await setup.admitted("fcm", 1)
    await setup.dispatch.deliver(await setup.admitted("fcm", 1), 60)
    setup.clock.ahead -= 86_400
    setup.fcm.result = Outcome("refused", "INVALID_ARGUMENT", counts_against_token=True)
    for _ in range(2 * MAX_FAILURES):
        await setup.dispatch.deliver([odd], 60)
    assert setup.observer.evictions == {}


async def test_an_outcome_that_is_not_stored_is_not_reported(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    """A later attempt may have another outcome, once the platform has credentials."""
    admitted = await setup.admitted("apns", 1)
    without_apns = Dispatch(
        registry=setup.registry,
        sealer=setup.sealer,
        transports={"fcm": setup.fcm},
        clock=setup.clock,
        observer=setup.observer,
    )

    async def busy(*_: object) -> None:
        raise RegistryBusy

    with monkeypatch.context() as broken:
        broken.setattr(setup.registry, "record_outcomes", busy)
        assert await without_apns.deliver(admitted, 60) == {}
    assert await setup.statuses(admitted) == {("queued", None): 1}
    reported = await without_apns.deliver(admitted, 60)
    assert [outcome.error for outcome in reported.values()] == ["provider_off"]
    assert await setup.statuses(admitted) == {("failed", "provider_off"): 1}


async def test_a_delivery_resets_the_failures_and_marks_the_device_as_seen(setup: Setup) -> None:
    ((push, device),) = await setup.admitted("fcm", 1)
    await setup.registry.record_failure(device.fingerprint, device.token)
    failing = await setup.registry.device(device.fingerprint)
    assert failing is not None
    setup.clock.ahead += SEEN_EVERY_SECONDS + 1
    await setup.dispatch.deliver([(push, failing)], 60)
    after = await setup.registry.device(device.fingerprint)
    assert after is not None
    assert (after.failures, after.seen_at > failing.seen_at + SEEN_EVERY_SECONDS) == (0, True)


@pytest.mark.parametrize(("older_by", "evictions"), [(10, {}), (-10, {"Unregistered": 1})])
async def test_only_a_token_that_died_after_its_registration_is_evicted(
    setup: Setup, older_by: float, evictions: dict[str, int]
) -> None:
    ((push, device),) = await setup.admitted("apns", 1)
    setup.apns.result = Outcome("gone", "Unregistered", since=device.registered_at - older_by)
    await setup.dispatch.deliver([(push, device)], 60)
    assert setup.observer.evictions == evictions
    status = "token_evicted" if evictions else "failed"
    assert await setup.statuses([(push, device)]) == {(status, "Unregistered"): 1}


async def overtaken(setup: Setup, platform: Platform, token: str) -> list[tuple[Push, Device]]:
    """A push to APNs is in flight when its device registers again, in the same second. Then APNs answers."""
    setup.apns.released.clear()
    admitted = await setup.admitted("apns", 1)
    ((_, device),) = admitted
    delivering = asyncio.create_task(setup.dispatch.deliver(admitted, 60))
    await until(_true_of(lambda: setup.apns.in_flight == 1))
    sealed = setup.sealer.seal("token", device.fingerprint, platform, token.encode())
    await setup.registry.register(Device(device.fingerprint, b"key", platform, sealed, device.registered_at))
    setup.apns.released.set()
    await delivering
    return admitted


GONE = Outcome("gone", "BadDeviceToken")
COUNTED = Outcome("refused", "INVALID_ARGUMENT", counts_against_token=True)


@pytest.mark.parametrize("result", [GONE, COUNTED])
async def test_an_outcome_of_a_former_token_affects_neither_the_new_token_nor_the_push(
    setup: Setup, result: Outcome
) -> None:
    await setup.dispatch.deliver(await setup.admitted("apns", 1), 60)
    setup.apns.result = result
    admitted = await overtaken(setup, "apns", "new")
    assert await setup.statuses(admitted) == {("queued", result.error): 1}
    assert setup.observer.attempts["apns", "queued"] == 1
    setup.apns.result = Outcome("delivered")
    await setup.dispatch.retry(100)
    await until(_equal(lambda: setup.statuses(admitted), {("delivered", None): 1}))
    assert setup.apns.sent["new"] == 1
    assert setup.observer.evictions == {}
    registered = await setup.registry.device(admitted[0][1].fingerprint)
    assert registered is not None
    assert (registered.evicted, registered.failures) == (None, 0)


async def test_a_push_whose_device_moved_to_a_websocket_waits_there_after_its_token_died(
    setup: Setup,
) -> None:
    setup.apns.result = GONE
    ((push, device),) = await overtaken(setup, "websocket", "")
    (held,) = await setup.registry.pending_for([device.fingerprint], setup.clock())
    assert (held.push.push_id, held.push.payload) == (push.push.push_id, push.push.payload)
    assert setup.observer.evictions == {}


# A provider with several hosts


class Lanes(Setup):
    """Web Push: a token is `<host>-<number>`. The host "slow" answers only when it is released."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.webpush = Hosts()
        self.dispatch = Dispatch(
            registry=self.registry,
            sealer=self.sealer,
            transports={"webpush": self.webpush},
            clock=self.clock,
            observer=self.observer,
            bulkhead=lambda: Bulkhead(MAX_CONCURRENT, MAX_QUEUED),
            lanes={"webpush": lambda token: token.partition("-")[0]},
        )

    async def to(self, host: str, count: int, *, clears: bool = False) -> list[tuple[Push, Device]]:
        found = []
        for push, device in await self.admitted("webpush", count):
            token = self.sealer.seal("token", device.fingerprint, "webpush", f"{host}-1".encode())
            registered = replace(device, token=token)
            await self.registry.register(registered)
            found.append((replace(push, push=replace(push.push, exempt=clears)), registered))
        # Its devices differ from those of the next call.
        self.clock.ahead += 0.001
        return found


class Hosts(Provider):
    def __init__(self) -> None:
        super().__init__()
        self.slow = asyncio.Event()
        self.results: dict[str, Outcome] = {}

    async def send(self, push: OutgoingPush) -> Outcome:
        host = push.token.partition("-")[0]
        if host == "slow":
            await self.slow.wait()
        self.sent[host] += 1
        return self.results.get(host, Outcome("delivered"))


@pytest.fixture
async def lanes(tmp_path: Path) -> AsyncIterator[Lanes]:
    lanes = Lanes(tmp_path / "relay.db")
    await lanes.registry.open(lambda channel, data: None)
    try:
        yield lanes
    finally:
        lanes.webpush.slow.set()
        await lanes.dispatch.close()
        await lanes.registry.close()


async def test_a_slow_host_takes_neither_the_slots_nor_the_queue_of_another(lanes: Lanes) -> None:
    for _ in range(2):
        # More than its share.
        await lanes.dispatch.deliver(await lanes.to("slow", MAX_CONCURRENT + MAX_QUEUED), 0)
    pushes = await lanes.to("quick", 2)
    outcomes = await lanes.dispatch.deliver(pushes, DEADLINE)
    assert [one.status for one in outcomes.values()] == ["delivered"] * 2
    assert lanes.webpush.sent == {"quick": 2}
    lanes.dispatch.report_load()
    assert lanes.observer.loads["webpush"][1] == 4
    # Another server has its share at the slow host, too.
    other = hashlib.sha256(b"another server").digest()
    assert lanes.dispatch._bulkheads["webpush"].capacity_of(other, "slow") > 0


async def test_a_host_that_rejects_all_pushes_blames_no_token_and_one_that_accepts_others_does(lanes: Lanes) -> None:
    """The relay's own contact may be the cause, at one of the services."""
    refused = Outcome("refused", "http_403", counts_against_token=True)
    lanes.webpush.results = {"strict": refused}
    await lanes.dispatch.deliver(await lanes.to("other", 1), DEADLINE)
    ((push, device),) = await lanes.to("strict", 1)
    for _ in range(MAX_FAILURES + 1):
        await lanes.dispatch.deliver([(push, device)], DEADLINE)
    found = await lanes.registry.device(device.fingerprint)
    assert found is not None
    assert (found.failures, found.evicted) == (0, None)
    lanes.webpush.results = {}
    await lanes.dispatch.deliver(await lanes.to("strict", 1), DEADLINE)
    lanes.webpush.results = {"strict": refused}
    for _ in range(MAX_FAILURES):
        await lanes.dispatch.deliver([(push, device)], DEADLINE)
    found = await lanes.registry.device(device.fingerprint)
    assert found is not None
    assert found.evicted == "failing"


async def test_a_clear_to_a_browser_is_not_attempted(lanes: Lanes) -> None:
    ((push, device),) = await lanes.to("quick", 1, clears=True)
    (outcome,) = (await lanes.dispatch.deliver([(push, device)], DEADLINE)).values()
    assert (outcome.status, outcome.error) == ("failed", "not_carried")
    assert not lanes.webpush.sent
    # It is no failure of a delivery: no alert counts it.
    assert not lanes.observer.attempts
