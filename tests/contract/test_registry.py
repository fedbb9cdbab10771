"""The contract of the relay's registry, for every implementation. Time is an argument: no test waits for it."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import msgspec
import pytest

from relay.registry.model import (
    CLEARED,
    HISTORY_SECONDS,
    LEASE_SECONDS,
    MAX_HELD,
    MAX_HELD_BY_DEVICE,
    MAX_HISTORY,
    MAX_NOTIFICATION_BYTES,
    PRUNE_BATCH,
    PUSHES,
    SEEN_EVERY_SECONDS,
    SUPERSEDED,
    AdmissionResult,
    AmbiguousFingerprint,
    AttemptOutcome,
    Device,
    History,
    NewPush,
    Platform,
    Pruned,
    Push,
    RegistryBusy,
    Server,
)
from relay.registry.port import Registry
from relay.registry.postgres.registry import PostgresRegistry
from relay.registry.rules import Rate
from relay.registry.sqlite.registry import SqliteRegistry

pytest_plugins = ["tests.support.postgres_fixtures"]

TABLES = "device, device_tally, server, nonce, bucket, push, history, history_tally"
NOW = 1_800_000_000
SERVER = hashlib.sha256(b"server").digest()
OTHER_SERVER = hashlib.sha256(b"another server").digest()
FREE = Rate(0)
PAYLOAD = b"\x01sealed payload"

Notifications = list[tuple[str, bytes]]


@pytest.fixture
def notifications() -> Notifications:
    return []


@pytest.fixture(params=["sqlite", "postgres"])
async def registry(
    request: pytest.FixtureRequest, tmp_path: Path, notifications: Notifications
) -> AsyncIterator[Registry]:
    opened: Registry
    if request.param == "sqlite":
        opened = SqliteRegistry(tmp_path / "relay.db")
        await opened.open(lambda channel, data: notifications.append((channel, data)))
    else:
        server, database = (request.getfixturevalue(name) for name in ("postgres", "database"))
        opened = PostgresRegistry(database, acquire_timeout=120, command_timeout=120)
        await opened.open(lambda channel, data: notifications.append((channel, data)))
        server.query(database, f"TRUNCATE {TABLES}")
    yield opened
    await opened.close()


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(120):
        while not condition():
            await asyncio.sleep(0.005)


def fingerprint(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest()


def device(name: str = "phone", platform: Platform = "apns", registered_at: int = NOW, **fields: Any) -> Device:
    given = {"seen_at": registered_at} | fields
    return Device(
        fingerprint(name), b"key of " + name.encode(), platform, b"token of " + name.encode(), registered_at, **given
    )


def push(key: str, to: str = "phone", *, expires_at: int = NOW + 300, **fields: Any) -> NewPush:
    return NewPush(
        hashlib.sha256(b"id" + key.encode()).digest()[:16], key, fingerprint(to), PAYLOAD, expires_at, **fields
    )


async def admit(registry: Registry, *pushes: NewPush, now: float = NOW, rate: Rate = FREE) -> list[AdmissionResult]:
    return await registry.admit(SERVER, pushes, now, rate)


async def record(registry: Registry, key: str, *outcome: Any, now: float = NOW) -> None:
    await registry.record_outcomes([AttemptOutcome(SERVER, key, *outcome)], now)


async def outcome(registry: Registry, key: str) -> Push:
    (found,) = await registry.outcomes(SERVER, [key])
    assert found is not None
    return found


async def statuses(registry: Registry, *keys: str) -> list[tuple[str, str | None] | None]:
    return [found and (found.status, found.error) for found in await registry.outcomes(SERVER, keys)]


def keys_of(pushes: list[Push]) -> list[str]:
    return [one.push.push_key for one in pushes]


async def all_of(*calls: Coroutine[Any, Any, Any]) -> list[Any]:
    async with asyncio.timeout(120):
        return await asyncio.gather(*calls)


# Devices


async def test_a_registered_device_is_found(registry: Registry) -> None:
    assert await registry.device(fingerprint("phone")) is None
    await registry.register(device())
    assert await registry.device(fingerprint("phone")) == device()


async def test_the_last_registration_wins(registry: Registry) -> None:
    await registry.register(device())
    later = device(platform="fcm", registered_at=NOW + 5)
    await registry.register(msgspec.structs.replace(later, token=b"new", public_key=b"same"))
    found = await registry.device(fingerprint("phone"))
    assert found == msgspec.structs.replace(later, token=b"new", public_key=b"same")


async def test_a_registration_sets_seen_at(registry: Registry) -> None:
    await registry.register(device(seen_at=0))
    found = await registry.device(fingerprint("phone"))
    assert found is not None
    assert found.seen_at == NOW


async def test_an_unregistered_device_is_gone(registry: Registry) -> None:
    await registry.register(device())
    assert await registry.unregister(fingerprint("phone"))
    assert await registry.device(fingerprint("phone")) is None
    assert not await registry.unregister(fingerprint("phone"))


async def test_failures_count_up_and_are_reset_after_contact(registry: Registry) -> None:
    await registry.register(device())
    assert [await registry.record_failure(fingerprint("phone"), device().token) for _ in range(3)] == [1, 2, 3]
    await registry.mark_seen(fingerprint("phone"), NOW + 1)
    assert await registry.record_failure(fingerprint("phone"), device().token) == 1
    await registry.register(device())
    assert await registry.record_failure(fingerprint("phone"), device().token) == 1


async def test_an_unknown_device_has_no_failures(registry: Registry) -> None:
    assert await registry.record_failure(fingerprint("unknown"), device("unknown").token) == 0
    await registry.mark_seen(fingerprint("unknown"), NOW)
    assert await registry.device(fingerprint("unknown")) is None


async def test_seen_at_moves_forward_but_not_at_every_contact(registry: Registry) -> None:
    await registry.register(device())

    async def seen_at() -> int:
        found = await registry.device(fingerprint("phone"))
        assert found is not None
        return found.seen_at

    await registry.mark_seen(fingerprint("phone"), NOW + SEEN_EVERY_SECONDS - 1)
    assert await seen_at() == NOW
    await registry.mark_seen(fingerprint("phone"), NOW + SEEN_EVERY_SECONDS)
    assert await seen_at() == NOW + SEEN_EVERY_SECONDS
    await registry.record_failure(fingerprint("phone"), device().token)
    await registry.mark_seen(fingerprint("phone"), NOW)
    assert await seen_at() == NOW + SEEN_EVERY_SECONDS


async def test_an_evicted_device_has_a_reason_and_no_token(registry: Registry) -> None:
    await registry.register(device())
    assert await registry.evict(fingerprint("phone"), "Unregistered", device().token, NOW + 9)
    assert await registry.device(fingerprint("phone")) == msgspec.structs.replace(
        device(), token=b"", evicted="Unregistered"
    )


async def test_an_eviction_happens_once_and_only_to_known_devices(registry: Registry) -> None:
    await registry.register(device())
    assert await registry.evict(fingerprint("phone"), "first", device().token, NOW)
    assert not await registry.evict(fingerprint("phone"), "second", device().token, NOW)
    assert not await registry.evict(fingerprint("unknown"), "first", device("unknown").token, NOW)
    found = await registry.device(fingerprint("phone"))
    assert found is not None
    assert found.evicted == "first"


async def test_a_device_that_registered_again_is_not_evicted_even_in_the_same_second(registry: Registry) -> None:
    again = msgspec.structs.replace(device(), token=b"sealed again")
    await registry.register(device())
    await admit(registry, push("a"))
    await registry.register(again)
    assert not await registry.evict(fingerprint("phone"), "Unregistered", device().token, NOW)
    assert await registry.device(fingerprint("phone")) == msgspec.structs.replace(again, used=True)
    assert await statuses(registry, "a") == [("queued", None)]
    assert await registry.evict(fingerprint("phone"), "Unregistered", again.token, NOW)


async def test_failures_of_an_earlier_token_do_not_count_against_the_current_one(registry: Registry) -> None:
    again = msgspec.structs.replace(device(), token=b"sealed again")
    await registry.register(device())
    await registry.register(again)
    assert await registry.record_failure(fingerprint("phone"), device().token) == 0
    assert await registry.record_failure(fingerprint("phone"), again.token) == 1


async def test_a_registration_forgets_the_eviction(registry: Registry) -> None:
    await registry.register(device())
    await registry.evict(fingerprint("phone"), "Unregistered", device().token, NOW)
    await registry.register(device(registered_at=NOW + 1))
    assert await registry.device(fingerprint("phone")) == device(registered_at=NOW + 1)
    assert (await admit(registry, push("a"), now=NOW + 1))[0].status == "queued"


async def test_devices_are_counted_by_platform_and_evicted_ones_separately(registry: Registry) -> None:
    assert await registry.count_devices() == {}
    for name, platform in (
        ("a", "apns"),
        ("b", "apns"),
        ("c", "fcm"),
        ("d", "websocket"),
        ("e", "websocket"),
        ("f", "webpush"),
    ):
        await registry.register(device(name, platform))
    assert await registry.count_devices() == {"apns": 2, "fcm": 1, "websocket": 2, "webpush": 1}
    await registry.register(device("a", "apns"))
    await registry.register(device("b", "fcm"))
    await registry.evict(fingerprint("c"), "gone", device("c").token, NOW)
    await registry.unregister(fingerprint("d"))
    assert await registry.count_devices() == {"apns": 1, "fcm": 1, "websocket": 1, "webpush": 1, "evicted": 1}
    await registry.register(device("c", "fcm"))
    await registry.unregister(fingerprint("e"))
    assert await registry.count_devices() == {"apns": 1, "fcm": 2, "webpush": 1}


async def test_the_count_is_correct_after_many_concurrent_changes(registry: Registry) -> None:
    for _ in range(30):
        await all_of(*(registry.register(device(str(number), "fcm")) for number in range(20)), registry.count_devices())
        await all_of(*(registry.unregister(fingerprint(str(number))) for number in range(20)), registry.count_devices())
    await all_of(*(registry.register(device(str(number))) for number in range(20)))
    await all_of(*(registry.count_devices() for _ in range(4)))
    assert await registry.count_devices() == {"apns": 20}


async def test_devices_are_read_in_pages_in_the_order_of_fingerprints(registry: Registry) -> None:
    registered = sorted((device(str(number)) for number in range(7)), key=lambda one: one.fingerprint)
    for one in registered:
        await registry.register(one)
    assert await registry.devices(b"", 3) == registered[:3]
    assert await registry.devices(registered[2].fingerprint, 3) == registered[3:6]
    assert await registry.devices(registered[5].fingerprint, 3) == registered[6:]
    assert await registry.devices(registered[6].fingerprint, 3) == []


async def test_a_token_is_resealed_only_if_it_is_still_the_old_one(registry: Registry) -> None:
    await registry.register(device())
    old = device().token
    assert await registry.reseal(fingerprint("phone"), old, b"new")
    assert not await registry.reseal(fingerprint("phone"), old, b"newer")
    assert not await registry.reseal(fingerprint("unknown"), old, b"new")
    assert await registry.device(fingerprint("phone")) == msgspec.structs.replace(device(), token=b"new")


async def test_silent_devices_are_evicted_and_old_evictions_forgotten(registry: Registry) -> None:
    await registry.register(device("silent", registered_at=NOW - 101))
    await registry.register(device("quiet", registered_at=NOW - 100))
    await registry.register(device("gone", registered_at=NOW - 101))
    await registry.evict(fingerprint("gone"), "Unregistered", device("gone").token, NOW - 51)
    await registry.register(device("going", registered_at=NOW - 101))
    await registry.evict(fingerprint("going"), "Unregistered", device("going").token, NOW - 50)
    assert await registry.prune(NOW - 100, NOW - 50, NOW) == Pruned(1, 1)
    assert {one.public_key: one.evicted for one in await registry.devices(b"", 10)} == {
        b"key of silent": "silent",
        b"key of quiet": None,
        b"key of going": "Unregistered",
    }
    silent = await registry.device(fingerprint("silent"))
    assert silent is not None
    assert silent.token == b""
    assert await registry.prune(NOW - 100, NOW - 50, NOW) == Pruned(0, 0)
    assert await registry.prune(NOW - 100, NOW, NOW) == Pruned(0, 1)
    assert await registry.prune(NOW - 100, NOW + 1, NOW) == Pruned(0, 1)
    assert await registry.count_devices() == {"apns": 1}


async def test_many_silent_devices_are_pruned_in_several_calls(registry: Registry) -> None:
    count = PRUNE_BATCH + 1
    for start in range(0, count, 50):
        await all_of(
            *(registry.register(device(str(n), registered_at=NOW - 9)) for n in range(start, min(count, start + 50)))
        )
    assert [await registry.prune(NOW, 0, NOW) for _ in range(3)] == [(PRUNE_BATCH, 0), (1, 0), (0, 0)]
    assert await registry.count_devices() == {"evicted": count}


async def names_of(registry: Registry) -> set[bytes]:
    return {one.public_key.removeprefix(b"key of ") for one in await registry.devices(b"", 100)}


async def trim(registry: Registry, max_devices: int, max_unused: int) -> tuple[int, int]:
    """The number of deleted registrations, which are gone, and of those left."""
    trimmed = await registry.trim(max_devices, max_unused)
    assert [await registry.device(one) for one in trimmed.deleted] == [None] * len(trimmed.deleted)
    return len(trimmed.deleted), trimmed.total


async def test_a_device_is_used_after_its_first_push(registry: Registry) -> None:
    await registry.register(device())
    await registry.register(device("other"))
    await admit(registry, push("a"), push("b", "unknown"))
    for name, used in (("phone", True), ("other", False)):
        found = await registry.device(fingerprint(name))
        assert found is not None
        assert found.used is used
    await registry.register(device(registered_at=NOW + 1))
    again = await registry.device(fingerprint("phone"))
    assert again is not None
    assert again.used, "a new token does not change that"


async def test_unused_devices_above_their_limit_are_deleted_the_longest_unseen_first(registry: Registry) -> None:
    for number in range(6):
        await registry.register(device(str(number), registered_at=NOW + number))
    await admit(registry, push("a", "0"))
    assert await trim(registry, 100, 5) == (0, 6)
    assert await trim(registry, 100, 3) == (2, 4)
    assert await names_of(registry) == {b"0", b"3", b"4", b"5"}
    assert await trim(registry, 100, 3) == (0, 4)
    assert await registry.count_devices() == {"apns": 4}


async def test_above_the_total_evicted_devices_and_then_more_unused_ones_are_deleted(registry: Registry) -> None:
    for number in range(8):
        await registry.register(device(str(number), registered_at=NOW + number))
    for number in range(4):
        await admit(registry, push(str(number), str(number)))
    await registry.evict(fingerprint("0"), "Unregistered", device("0").token, NOW)
    assert await trim(registry, 6, 4) == (2, 6)
    assert await names_of(registry) == {b"1", b"2", b"3", b"5", b"6", b"7"}
    assert await trim(registry, 3, 1) == (3, 3)
    assert await trim(registry, 2, 1) == (0, 3), "devices in use are kept"
    assert await statuses(registry, "1", "2", "3") == [("queued", None)] * 3


async def test_many_unused_devices_are_deleted_in_several_calls(registry: Registry) -> None:
    count = PRUNE_BATCH + 2
    for start in range(0, count, 50):
        await all_of(*(registry.register(device(str(n))) for n in range(start, min(count, start + 50))))
    assert [await trim(registry, 5000, 1) for _ in range(3)] == [(PRUNE_BATCH, 2), (1, 1), (0, 1)]


# Servers


def server(name: str, *, trusted_at: int = NOW) -> Server:
    return Server(hashlib.sha256(name.encode()).digest(), b"key of " + name.encode(), name, trusted_at)


async def test_trusted_servers_are_known_until_they_are_removed(registry: Registry) -> None:
    first, second = server("first"), server("second", trusted_at=NOW + 1)
    assert await registry.server(first.server_id) is None
    await registry.trust(second)
    await registry.trust(first)
    assert await registry.server(first.server_id) == first
    assert await registry.servers() == [first, second]
    assert await registry.distrust(first.server_id)
    assert not await registry.distrust(first.server_id)
    assert await registry.servers() == [second]


async def test_a_server_that_is_trusted_again_gets_its_new_name_and_key(registry: Registry) -> None:
    known = server("known")
    await registry.trust(msgspec.structs.replace(known, public_key=b"", name=""))
    await registry.trust(msgspec.structs.replace(known, trusted_at=NOW + 9))
    assert await registry.servers() == [known]


async def test_the_first_server_is_trusted_and_then_no_other(registry: Registry) -> None:
    assert await registry.trust_first(server("first"))
    assert await registry.trust_first(server("first"))
    assert not await registry.trust_first(server("second"))
    assert await registry.servers() == [server("first")]


async def test_of_concurrent_first_servers_one_is_trusted(registry: Registry) -> None:
    racers = [server(str(number)) for number in range(20)]
    won = await all_of(*(registry.trust_first(one) for one in racers))
    assert sum(won) == 1
    assert await registry.servers() == [racers[won.index(True)]]


# Nonces


async def test_a_nonce_can_be_used_once(registry: Registry) -> None:
    assert await registry.use_nonce(b"n" * 64, NOW)
    assert not await registry.use_nonce(b"n" * 64, NOW + 5)
    assert await registry.use_nonce(b"m", NOW)


async def test_of_concurrent_uses_one_is_the_first(registry: Registry) -> None:
    assert sum(await all_of(*(registry.use_nonce(b"nonce", NOW + 60) for _ in range(50)))) == 1


async def test_a_nonce_is_stored_until_it_expires(registry: Registry) -> None:
    await registry.use_nonce(b"nonce", NOW)
    assert await registry.sweep(NOW, 10) == 0
    assert not await registry.use_nonce(b"nonce", NOW)
    assert await registry.sweep(NOW + 0.5, 10) == 1
    assert await registry.use_nonce(b"nonce", NOW)


# Admission


async def test_a_push_is_admitted_to_a_device(registry: Registry) -> None:
    await registry.register(device())
    requested = push("a", collapse_id="c", priority="normal", exempt=True)
    assert await admit(registry, requested, now=NOW + 0.5) == [
        AdmissionResult("queued", requested.push_id, "apns", None, device())
    ]
    expected = Push(SERVER, requested, "apns", due=NOW + 0.5 + LEASE_SECONDS, created_at=NOW + 0.5)
    assert await outcome(registry, "a") == expected


async def test_answers_are_in_the_order_of_the_request(registry: Registry) -> None:
    await registry.register(device("phone"))
    await registry.register(device("tablet", "fcm"))
    await registry.register(device("dead"))
    await registry.evict(fingerprint("dead"), "Unregistered", device("dead").token, NOW)
    answers = await admit(
        registry,
        push("a", "tablet"),
        push("b", "unknown"),
        push("c", "phone"),
        push("d", "dead"),
        push("e", "tablet", expires_at=NOW),
        push("a", "tablet"),
    )
    assert [(one.status, one.platform, one.error, one.device is not None) for one in answers] == [
        ("queued", "fcm", None, True),
        ("not_registered", None, None, False),
        ("queued", "apns", None, True),
        ("token_evicted", "apns", "Unregistered", False),
        ("failed", "fcm", "expired", False),
        ("queued", "fcm", None, False),
    ]
    assert [one.push_id for one in answers] == [
        push(key).push_id if key else None for key in ("a", "", "c", "", "", "a")
    ]


async def test_empty_requests_have_empty_answers(registry: Registry) -> None:
    assert await registry.admit(SERVER, [], NOW, FREE) == []
    await registry.record_outcomes([], NOW)
    assert await registry.outcomes(SERVER, []) == []
    assert await registry.pending_for([], NOW) == []


async def test_a_known_key_gets_the_status_of_its_push_and_changes_nothing(registry: Registry) -> None:
    await registry.register(device())
    await admit(registry, push("a"))
    await record(registry, "a", "failed", "BadDeviceToken")
    again = msgspec.structs.replace(push("a"), push_id=b"another", payload=b"another")
    assert await admit(registry, again) == [AdmissionResult("failed", push("a").push_id, "apns", "BadDeviceToken")]
    assert (await outcome(registry, "a")).push.payload == b""


async def test_keys_of_two_servers_are_separate(registry: Registry) -> None:
    await registry.register(device())
    await admit(registry, push("a"))
    other = msgspec.structs.replace(push("a"), push_id=b"other")
    assert (await registry.admit(OTHER_SERVER, [other], NOW, FREE))[0].device is not None
    await record(registry, "a", "delivered")
    (found,) = await registry.outcomes(OTHER_SERVER, ["a"])
    assert found is not None
    assert (found.status, found.push.push_id) == ("queued", b"other")


async def test_rejected_pushes_are_not_stored(registry: Registry) -> None:
    await admit(registry, push("a"))
    assert await registry.outcomes(SERVER, ["a"]) == [None]
    await registry.register(device())
    assert (await admit(registry, push("a")))[0].status == "queued"


async def test_one_key_in_many_concurrent_requests_is_one_push(registry: Registry) -> None:
    await registry.register(device())
    ids = [bytes([number]) * 16 for number in range(20)]
    answers = await all_of(*(admit(registry, msgspec.structs.replace(push("a"), push_id=one)) for one in ids))
    assert {one.push_id for (one,) in answers} == {(await outcome(registry, "a")).push.push_id}
    assert sum(one.device is not None for (one,) in answers) == 1
    assert await registry.backlog() == 1


async def test_one_key_for_many_devices_at_once_is_one_push(registry: Registry) -> None:
    names = [f"device {number}" for number in range(20)]
    for name in names:
        await registry.register(device(name))
    requested = [msgspec.structs.replace(push("a", name), push_id=fingerprint(name)[:16]) for name in names]
    answers = await all_of(*(admit(registry, one) for one in requested))
    assert {one.push_id for (one,) in answers} == {(await outcome(registry, "a")).push.push_id}
    assert sum(one.device is not None for (one,) in answers) == 1


async def test_requests_with_the_same_pushes_in_any_order_do_not_deadlock(registry: Registry) -> None:
    names = [f"device {number}" for number in range(10)]
    for name in names:
        await registry.register(device(name))
    requested = [push(f"{name} {number}", name) for name in names for number in range(2)]
    orders = [requested, requested[::-1], requested[7:] + requested[:7], requested[::2] + requested[1::2]] * 4
    answers = await all_of(*(admit(registry, *order) for order in orders))
    assert sum(one.device is not None for request in answers for one in request) == len(requested)
    assert {one.push_id for request in answers for one in request} == {one.push_id for one in requested}
    assert await registry.backlog() == len(requested)


async def test_a_request_of_500_pushes_is_admitted(registry: Registry) -> None:
    for number in range(250):
        await registry.register(device(str(number)))
    requested = [push(f"key {number}", str(number % 250)) for number in range(500)]
    assert all(one.device is not None for one in await admit(registry, *requested))
    assert keys_of([one for one in await registry.outcomes(SERVER, [one.push_key for one in requested]) if one]) == [
        one.push_key for one in requested
    ]
    await registry.record_outcomes([AttemptOutcome(SERVER, one.push_key, "delivered") for one in requested], NOW)
    assert await registry.backlog() == 0


# Rate limits


async def test_a_burst_is_admitted_and_then_one_push_at_a_time(registry: Registry) -> None:
    await registry.register(device())
    rate = Rate(6, burst=3)
    answers = await admit(registry, *(push(str(number)) for number in range(5)), rate=rate)
    assert [one.status for one in answers] == ["queued"] * 3 + ["rate_limited"] * 2
    assert answers[4] == AdmissionResult("rate_limited", None, "apns")
    assert (await admit(registry, push("5"), now=NOW + 9.9, rate=rate))[0].status == "rate_limited"
    assert (await admit(registry, push("6"), now=NOW + 10, rate=rate))[0].status == "queued"
    assert (await admit(registry, push("7"), now=NOW + 10, rate=rate))[0].status == "rate_limited"


async def test_a_clear_and_a_repeat_do_not_count_against_the_rate(registry: Registry) -> None:
    await registry.register(device())
    rate = Rate(6, burst=1)
    assert (await admit(registry, push("a"), rate=rate))[0].status == "queued"
    assert (await admit(registry, push("a"), rate=rate))[0].status == "queued"
    assert (await admit(registry, push("clear", exempt=True), rate=rate))[0].status == "queued"
    assert (await admit(registry, push("b"), rate=rate))[0].status == "rate_limited"


async def test_clears_have_a_bucket_of_their_own_for_five_minutes_of_pushes(registry: Registry) -> None:
    await registry.register(device())
    rate = Rate(2, burst=3)
    clears = [push(f"clear {number}", exempt=True) for number in range(16)]
    answers = await admit(registry, *clears, rate=rate)
    assert [one.status for one in answers] == ["queued"] * 13 + ["rate_limited"] * 3
    assert (await admit(registry, clears[-1], rate=rate))[0].status == "rate_limited"
    assert (await admit(registry, clears[-1], now=NOW + 30, rate=rate))[0].status == "queued"
    others = await admit(registry, *map(push, "abcd"), now=NOW + 30, rate=rate)
    assert [one.status for one in others] == ["queued"] * 3 + ["rate_limited"]
    assert (await admit(registry, clears[-2], now=NOW + 30, rate=Rate(0)))[0].status == "queued"


async def test_each_server_and_each_device_has_a_rate_of_its_own(registry: Registry) -> None:
    await registry.register(device())
    await registry.register(device("tablet"))
    rate = Rate(6, burst=1)
    assert (await admit(registry, push("a"), rate=rate))[0].status == "queued"
    assert (await admit(registry, push("b", "tablet"), rate=rate))[0].status == "queued"
    other = await registry.admit(OTHER_SERVER, [msgspec.structs.replace(push("a"), push_id=b"other")], NOW, rate)
    assert other[0].status == "queued"


async def test_concurrent_requests_get_no_more_than_the_burst(registry: Registry) -> None:
    await registry.register(device())
    answers = await all_of(*(admit(registry, push(str(n)), rate=Rate(6, burst=7)) for n in range(20)))
    assert sum(one.status == "queued" for (one,) in answers) == 7


async def test_an_expired_bucket_is_swept_without_effect_on_the_rate(registry: Registry) -> None:
    await registry.register(device())
    rate = Rate(6, burst=1)
    await admit(registry, push("a", expires_at=NOW + 999), rate=rate)
    assert await registry.sweep(NOW + 9, 10) == 0
    assert await registry.sweep(NOW + 10, 10) == 1
    assert (await admit(registry, push("b"), now=NOW + 10, rate=rate))[0].status == "queued"


# Outcomes


async def test_outcomes_are_in_the_order_of_the_keys(registry: Registry) -> None:
    await registry.register(device())
    await admit(registry, push("a"), push("b"), push("c"))
    await record(registry, "b", "delivered")
    await record(registry, "c", "failed", "PayloadTooLarge")
    assert await statuses(registry, "c", "unknown", "a", "b", "c") == [
        ("failed", "PayloadTooLarge"),
        None,
        ("queued", None),
        ("delivered", None),
        ("failed", "PayloadTooLarge"),
    ]


@pytest.mark.parametrize("status", ["delivered", "failed", "token_evicted"])
async def test_a_push_with_a_final_status_has_no_payload_and_is_not_due(registry: Registry, status: str) -> None:
    await registry.register(device())
    await admit(registry, push("a"))
    await record(registry, "a", status, "why")
    found = await outcome(registry, "a")
    assert (found.status, found.error, found.push.payload, found.due) == (status, "why", b"", 0)
    assert await registry.claim("apns", NOW + 200, 10) == []


async def test_a_final_status_does_not_change_except_to_delivered(registry: Registry) -> None:
    await registry.register(device())
    await admit(registry, push("a"))
    await record(registry, "a", "failed", "first")
    await record(registry, "a", "failed", "second")
    await record(registry, "a", "queued", "third", NOW + 1)
    assert await statuses(registry, "a") == [("failed", "first")]
    await record(registry, "a", "delivered")
    await record(registry, "a", "failed", "fourth")
    await record(registry, "a", "queued", None, NOW + 1)
    assert await statuses(registry, "a") == [("delivered", None)]


async def test_of_several_outcomes_of_one_push_in_a_batch_the_best_counts(registry: Registry) -> None:
    await registry.register(device())
    await admit(registry, push("a"), push("b"), push("c"))
    batch = [
        *(AttemptOutcome(SERVER, "a", *one) for one in (("failed", "x"), ("delivered",), ("queued", None, NOW + 9))),
        *(AttemptOutcome(SERVER, "b", *one) for one in (("queued", "y", NOW + 9), ("failed", "x"), ("failed", "z"))),
        *(AttemptOutcome(SERVER, "c", *one) for one in (("queued", "y", NOW + 8), ("queued", "z", NOW + 9))),
    ]
    await registry.record_outcomes(batch, NOW)
    assert await statuses(registry, "a", "b", "c") == [("delivered", None), ("failed", "x"), ("queued", "z")]
    assert (await outcome(registry, "c")).due == NOW + 9


async def test_the_outcome_of_an_unknown_push_is_ignored(registry: Registry) -> None:
    await record(registry, "unknown", "delivered")
    assert await registry.outcomes(SERVER, ["unknown"]) == [None]


async def test_batches_of_outcomes_in_any_order_do_not_deadlock(registry: Registry) -> None:
    await registry.register(device())
    names = [str(number) for number in range(MAX_HELD)]
    await admit(registry, *(push(name) for name in names))
    batches = [
        [AttemptOutcome(SERVER, name, "delivered") for name in order] for order in (names, names[::-1], names[5:])
    ] * 5
    await all_of(*(registry.record_outcomes(batch, NOW) for batch in batches))
    assert set(await statuses(registry, *names)) == {("delivered", None)}


# Pushes held for a device that connects


async def test_pushes_to_a_websocket_device_are_notified_and_held_oldest_first(
    registry: Registry, notifications: Notifications
) -> None:
    await registry.register(device("tablet", "websocket"))
    await registry.register(device("phone"))
    await admit(registry, push("a", "tablet"), push("b", "phone"))
    await admit(registry, push("c", "tablet"))
    await until(lambda: len(notifications) == 2)
    assert notifications == [(PUSHES, fingerprint("tablet")[:16])] * 2
    held = await registry.pending_for([fingerprint("tablet"), fingerprint("phone"), fingerprint("unknown")], NOW)
    assert keys_of(held) == ["a", "c"]
    assert held[0] == Push(SERVER, push("a", "tablet"), "websocket", attempts=1, created_at=NOW)


async def test_expired_and_final_pushes_are_not_held(registry: Registry) -> None:
    await registry.register(device("tablet", "websocket"))
    await admit(registry, push("a", "tablet", expires_at=NOW + 5), push("b", "tablet"), push("c", "tablet"))
    await record(registry, "b", "failed", "x")
    assert keys_of(await registry.pending_for([fingerprint("tablet")], NOW + 4.9)) == ["a", "c"]
    assert keys_of(await registry.pending_for([fingerprint("tablet")], NOW + 5)) == ["c"]


async def test_a_push_held_for_its_device_is_never_due(registry: Registry) -> None:
    await registry.register(device("tablet", "websocket"))
    await admit(registry, push("a", "tablet"))
    await record(registry, "a", "queued", "not there", NOW + 1)
    assert await registry.claim("apns", NOW + 200, 10) == []
    assert keys_of(await registry.pending_for([fingerprint("tablet")], NOW)) == ["a"]


@pytest.mark.parametrize("platform", ["apns", "websocket"])
async def test_a_device_holds_the_newest_pushes_and_the_oldest_are_superseded(
    registry: Registry, platform: Platform
) -> None:
    await registry.register(device("tablet", platform))
    await registry.register(device("phone"))
    names = [str(number) for number in range(MAX_HELD + 3)]
    for name in names:
        await admit(registry, push(name, "tablet"), push(f"other {name}", "phone", expires_at=NOW))
    assert await statuses(registry, *names) == [("failed", SUPERSEDED)] * 3 + [("queued", None)] * MAX_HELD
    assert (await outcome(registry, "0")).push.payload == b""
    if platform == "websocket":
        assert keys_of(await registry.pending_for([fingerprint("tablet")], NOW)) == names[3:]


async def test_a_request_with_more_pushes_than_a_device_holds_reports_it(
    registry: Registry, notifications: Notifications
) -> None:
    await registry.register(device("tablet", "websocket"))
    answers = await admit(registry, *(push(str(number), "tablet") for number in range(MAX_HELD + 2)))
    assert answers[1] == AdmissionResult("failed", push("1").push_id, "websocket", SUPERSEDED)
    assert [one.status for one in answers] == ["failed"] * 2 + ["queued"] * MAX_HELD
    await until(lambda: notifications)
    assert notifications == [(PUSHES, fingerprint("tablet")[:16])]


async def test_concurrent_requests_leave_no_more_than_a_device_holds(registry: Registry) -> None:
    await registry.register(device("tablet", "websocket"))
    batches = [[push(f"{batch} {number}", "tablet") for number in range(5)] for batch in range(12)]
    await all_of(*(admit(registry, *batch) for batch in batches))
    assert await registry.backlog() == MAX_HELD
    found = await statuses(registry, *(one.push_key for batch in batches for one in batch))
    assert sorted(found, key=str) == [("failed", SUPERSEDED)] * (60 - MAX_HELD) + [("queued", None)] * MAX_HELD


async def test_the_first_push_to_a_provider_that_is_due_is_known_and_none_for_a_websocket(registry: Registry) -> None:
    assert await registry.first_due() is None
    for name, platform in (("phone", "apns"), ("other", "fcm"), ("tablet", "websocket")):
        await registry.register(device(name, platform))
    await admit(registry, push("socket", "tablet"), now=NOW - 100)
    assert await registry.first_due() is None
    await admit(registry, push("late", "phone"), now=NOW + 5)
    await registry.admit(OTHER_SERVER, [push("theirs", "other")], NOW + 2.5, FREE)
    await admit(registry, push("early", "other"), now=NOW + 3)
    # The admission claims a push, for whom it is due when that lease ends.
    ends = NOW + LEASE_SECONDS
    assert await registry.first_due() == ends + 2.5
    (claimed,) = await registry.claim("fcm", ends + 2.5, 1)
    assert claimed[0].push.push_key == "theirs"
    assert await registry.first_due() == ends + 3
    for server_id, key in ((SERVER, "late"), (SERVER, "early"), (OTHER_SERVER, "theirs")):
        await registry.record_outcomes([AttemptOutcome(server_id, key, "delivered")], NOW)
    assert await registry.first_due() is None


async def push_from(registry: Registry, server_id: bytes, names: list[str], to: str = "tablet") -> None:
    await registry.admit(server_id, [push(name, to) for name in names], NOW, FREE)


async def statuses_of(registry: Registry, server_id: bytes, names: list[str]) -> list[str]:
    return [found.status if found else "none" for found in await registry.outcomes(server_id, names)]


@pytest.mark.parametrize("platform", ["websocket", "apns"])
async def test_a_server_supersedes_its_own_pushes_and_none_of_another_server(
    registry: Registry, platform: Platform
) -> None:
    await registry.register(device("tablet", platform))
    await push_from(registry, OTHER_SERVER, ["theirs"])
    mine = [str(number) for number in range(MAX_HELD + 5)]
    for start in range(0, len(mine), 5):
        await push_from(registry, SERVER, mine[start : start + 5])
    assert await statuses_of(registry, OTHER_SERVER, ["theirs"]) == ["queued"]
    assert await statuses_of(registry, SERVER, mine) == ["failed"] * 5 + ["queued"] * MAX_HELD
    if platform == "websocket":
        held = await registry.pending_for([fingerprint("tablet")], NOW)
        assert keys_of(held) == ["theirs", *mine[5:]]


async def test_many_servers_share_what_a_device_holds(registry: Registry) -> None:
    await registry.register(device("tablet", "websocket"))
    servers = [hashlib.sha256(bytes([number])).digest() for number in range(6)]
    names = {server_id: [f"{server_id.hex()[:4]} {number}" for number in range(MAX_HELD)] for server_id in servers}
    for server_id in servers:
        await push_from(registry, server_id, names[server_id])
    await push_from(registry, OTHER_SERVER, ["one"])
    queued = {
        server_id: (await statuses_of(registry, server_id, names[server_id])).count("queued") for server_id in servers
    }
    assert sum(queued.values()) == MAX_HELD_BY_DEVICE - 1
    assert set(queued.values()) <= {9, 10}
    assert await statuses_of(registry, OTHER_SERVER, ["one"]) == ["queued"]
    assert len(await registry.pending_for([fingerprint("tablet")], NOW)) == MAX_HELD_BY_DEVICE


async def test_an_acknowledged_push_is_delivered_and_its_payload_deleted(registry: Registry) -> None:
    await registry.register(device("tablet", "websocket"))
    await admit(registry, push("a", "tablet"), push("b", "tablet"))
    acknowledged = await registry.acknowledge(fingerprint("tablet"), push("a").push_id, NOW)
    assert acknowledged == await outcome(registry, "a")
    assert (acknowledged.status, acknowledged.push.payload) == ("delivered", b"")
    assert keys_of(await registry.pending_for([fingerprint("tablet")], NOW)) == ["b"]
    assert await registry.acknowledge(fingerprint("tablet"), push("a").push_id, NOW) == acknowledged


async def test_a_push_is_acknowledged_by_its_own_device_only(registry: Registry) -> None:
    await registry.register(device("tablet", "websocket"))
    await admit(registry, push("a", "tablet"))
    assert await registry.acknowledge(fingerprint("phone"), push("a").push_id, NOW) is None
    assert await registry.acknowledge(fingerprint("tablet"), push("b").push_id, NOW) is None
    assert await statuses(registry, "a") == [("queued", None)]


async def test_an_outcome_after_the_acknowledgement_does_not_undo_it(registry: Registry) -> None:
    await registry.register(device("tablet", "websocket"))
    await admit(registry, push("a", "tablet"), push("b", "tablet"))
    await registry.acknowledge(fingerprint("tablet"), push("a").push_id, NOW)
    await record(registry, "a", "failed", "late")
    await record(registry, "b", "failed", SUPERSEDED)
    await registry.acknowledge(fingerprint("tablet"), push("b").push_id, NOW)
    assert await statuses(registry, "a", "b") == [("delivered", None)] * 2


async def test_a_concurrent_acknowledgement_and_failure_end_as_delivered(registry: Registry) -> None:
    await registry.register(device("tablet", "websocket"))
    names = [str(number) for number in range(MAX_HELD)]
    await admit(registry, *(push(name, "tablet") for name in names))
    acknowledged = (registry.acknowledge(fingerprint("tablet"), push(name).push_id, NOW) for name in names)
    await all_of(*acknowledged, *(record(registry, name, "failed", "x") for name in names))
    assert set(await statuses(registry, *names)) == {("delivered", None)}


# Claims


async def test_a_push_is_claimed_when_its_lease_has_expired_and_then_again(registry: Registry) -> None:
    await registry.register(device())
    await admit(registry, push("a"))
    assert await registry.claim("apns", NOW + LEASE_SECONDS - 0.1, 10) == []
    now = NOW + LEASE_SECONDS
    claimed = Push(SERVER, push("a"), "apns", due=now + LEASE_SECONDS, attempts=1, created_at=NOW)
    assert await registry.claim("apns", now, 10) == [(claimed, device(used=True))]
    assert await registry.claim("apns", now, 10) == []
    assert [one.attempts for one, _ in await registry.claim("apns", now + LEASE_SECONDS, 10)] == [2]


async def test_a_push_to_retry_is_due_at_the_given_time(registry: Registry) -> None:
    await registry.register(device())
    await admit(registry, push("a"), push("b"))
    await record(registry, "a", "queued", "503", NOW + 2.5)
    await record(registry, "b", "queued", "429", now=NOW + 1)
    assert await registry.claim("apns", NOW + 0.9, 10) == []
    assert keys_of([one for one, _ in await registry.claim("apns", NOW + 1, 10)]) == ["b"]
    ((again, _),) = await registry.claim("apns", NOW + 2.5, 10)
    assert (again.push.push_key, again.error, again.push.payload) == ("a", "503", PAYLOAD)


async def test_concurrent_claims_are_disjoint(registry: Registry) -> None:
    names = [str(number) for number in range(60)]
    for name in names:
        await registry.register(device(name))
    await admit(registry, *(push(name, name) for name in names))
    claims = await all_of(*(registry.claim("apns", NOW + LEASE_SECONDS, 7) for _ in range(12)))
    claimed = [one.push.push_key for claim in claims for one, _ in claim]
    assert len(claimed) == len(set(claimed))
    rest = [one.push.push_key for one, _ in await registry.claim("apns", NOW + LEASE_SECONDS, 100)]
    assert sorted(claimed + rest) == sorted(names)


async def test_at_most_limit_pushes_are_claimed_and_the_longest_due_first(registry: Registry) -> None:
    for number in range(5):
        await registry.register(device(str(number)))
        await admit(registry, push(str(number), str(number)), now=NOW - number)
    claimed = await registry.claim("apns", NOW + LEASE_SECONDS, 2)
    assert sorted(one.push.push_key for one, _ in claimed) == ["3", "4"]
    assert all(owner.fingerprint == one.push.fingerprint for one, owner in claimed)


async def test_due_pushes_of_one_platform_do_not_delay_those_of_another(registry: Registry) -> None:
    for number in range(30):
        await registry.register(device(str(number)))
        await admit(registry, push(str(number), str(number)), now=NOW - 1)
    await registry.register(device("android", "fcm"))
    await admit(registry, push("a", "android"))
    (claimed,) = await registry.claim("fcm", NOW + LEASE_SECONDS, 5)
    assert claimed[0].push.push_key == "a"
    assert len(await registry.claim("apns", NOW + LEASE_SECONDS, 5)) == 5


async def test_a_long_queue_of_one_server_does_not_delay_the_pushes_of_another(registry: Registry) -> None:
    for number in range(40):
        await registry.register(device(str(number)))
        await registry.admit(SERVER, [push(f"a{number}", str(number))], NOW - 100 + number, FREE)
    for number in range(3):
        await registry.admit(OTHER_SERVER, [push(f"b{number}", str(number))], NOW, FREE)
    claimed = await registry.claim("apns", NOW + LEASE_SECONDS, 8)
    assert {one.push.push_key for one, _ in claimed} == {"b0", "b1", "b2", "a0", "a1", "a2", "a3", "a4"}
    claimed = await registry.claim("apns", NOW + LEASE_SECONDS, 8, skip={SERVER})
    assert claimed == []
    assert len(await registry.claim("apns", NOW + LEASE_SECONDS, 8, skip={OTHER_SERVER})) == 8


async def test_every_server_gets_a_share_of_each_claim(registry: Registry) -> None:
    servers = [hashlib.sha256(bytes([number])).digest() for number in range(12)]
    for number in range(4):
        await registry.register(device(str(number)))
        for server_id in servers:
            await registry.admit(server_id, [push(f"{server_id.hex()[:4]}{number}", str(number))], NOW - 9, FREE)
    claimed = await registry.claim("apns", NOW + LEASE_SECONDS, 12)
    assert sorted(one.server_id for one, _ in claimed) == sorted(servers)
    claimed = await registry.claim("apns", NOW + LEASE_SECONDS, 24)
    assert sorted(one.server_id for one, _ in claimed) == sorted(servers * 2)


async def test_an_expired_push_fails_instead_of_being_claimed(registry: Registry) -> None:
    await registry.register(device())
    await admit(registry, push("a", expires_at=NOW + LEASE_SECONDS), push("b", expires_at=NOW + LEASE_SECONDS + 1))
    assert keys_of([one for one, _ in await registry.claim("apns", NOW + LEASE_SECONDS, 10)]) == ["b"]
    assert await statuses(registry, "a") == [("failed", "expired")]


async def test_pushes_of_an_evicted_or_unregistered_device_end_with_it(registry: Registry) -> None:
    for name, platform in (("phone", "apns"), ("tablet", "websocket"), ("other", "apns")):
        await registry.register(device(name, platform))
    await admit(registry, push("a"), push("b"), push("c", "tablet"), push("d", "other"))
    await record(registry, "b", "delivered")
    await registry.evict(fingerprint("phone"), "Unregistered", device().token, NOW)
    await registry.unregister(fingerprint("tablet"))
    assert await statuses(registry, "a", "b", "c", "d") == [
        ("token_evicted", "Unregistered"),
        ("delivered", None),
        ("not_registered", None),
        ("queued", None),
    ]
    assert (await outcome(registry, "c")).push.payload == b""


async def test_pushes_of_a_pruned_device_end_when_they_are_due(registry: Registry) -> None:
    await registry.register(device())
    await registry.register(device("gone"))
    await admit(registry, push("a"), push("b", "gone"))
    await registry.prune(NOW + 1, 0, NOW)
    await registry.register(device("gone", "websocket"))
    await registry.register(device("gone", registered_at=NOW))
    assert keys_of([one for one, _ in await registry.claim("apns", NOW + LEASE_SECONDS, 10)]) == ["b"]
    assert await statuses(registry, "a") == [("token_evicted", "silent")]


async def test_a_concurrent_admission_and_eviction_leave_nothing_queued(registry: Registry) -> None:
    names = [f"device {number}" for number in range(20)]
    for name in names:
        await registry.register(device(name))
    await all_of(
        *(admit(registry, push(name, name)) for name in names),
        *(registry.evict(fingerprint(name), "gone", device(name).token, NOW) for name in names),
    )
    assert await registry.backlog() == 0


async def test_queued_pushes_follow_their_device_to_another_platform(registry: Registry) -> None:
    await registry.register(device())
    await admit(registry, push("a"), push("b"))
    await record(registry, "b", "delivered")
    await registry.register(device(platform="websocket", registered_at=NOW + 1))
    assert await registry.claim("apns", NOW + LEASE_SECONDS, 10) == []
    (waiting,) = await registry.pending_for([fingerprint("phone")], NOW + 1)
    assert (waiting.push, waiting.platform, waiting.due) == (push("a"), "websocket", 0)
    await registry.register(device(platform="fcm", registered_at=NOW + 2))
    assert await registry.pending_for([fingerprint("phone")], NOW + 2) == []
    assert [one.platform for one, _ in await registry.claim("fcm", NOW + 2, 10)] == ["fcm"]


# Expiry


async def test_expired_rows_are_swept_in_batches(registry: Registry) -> None:
    await registry.register(device())
    await admit(registry, *(push(str(number), expires_at=NOW + 1 + number) for number in range(9)), rate=Rate(60, 60))
    for number in range(4):
        await registry.use_nonce(bytes([number]), NOW + number)
    assert await registry.sweep(NOW, 3) == 0
    assert await registry.sweep(NOW + 5, 3) == 3 + 3
    assert await statuses(registry, "2", "3") == [None, ("queued", None)]
    assert await registry.sweep(NOW + 5, 3) == 2 + 1
    assert await registry.sweep(NOW + 5.5, 3) == 0
    assert await registry.sweep(NOW + 9, 10) == 4 + 1
    assert await registry.backlog() == 0


async def test_concurrent_sweeps_count_every_row_once(registry: Registry) -> None:
    await registry.register(device())
    await admit(registry, *(push(str(number)) for number in range(MAX_HELD)))
    assert sum(await all_of(*(registry.sweep(NOW + 300, 4) for _ in range(10)))) <= MAX_HELD
    while await registry.sweep(NOW + 300, 4):
        pass
    assert set(await registry.outcomes(SERVER, [str(number) for number in range(MAX_HELD)])) == {None}


async def test_the_backlog_is_the_number_of_queued_pushes(registry: Registry) -> None:
    assert await registry.backlog() == 0
    await registry.register(device())
    await registry.register(device("tablet", "websocket"))
    await admit(registry, push("a"), push("b", "tablet"), push("c", "tablet"))
    assert await registry.backlog() == 3
    await record(registry, "a", "failed", "x")
    await registry.acknowledge(fingerprint("tablet"), push("b").push_id, NOW)
    assert await registry.backlog() == 1


# Notifications


async def test_a_notification_reaches_its_sender_too(registry: Registry, notifications: Notifications) -> None:
    everything = bytes(range(256)) * 15 + bytes(160)
    assert len(everything) == MAX_NOTIFICATION_BYTES
    await registry.notify("sockets", b"")
    await registry.notify("other", everything)
    await until(lambda: len(notifications) == 2)
    assert notifications == [("sockets", b""), ("other", everything)]
    with pytest.raises(ValueError, match="at most"):
        await registry.notify("sockets", everything + b"x")


async def test_a_request_to_many_devices_is_notified_in_several_batches(
    registry: Registry, notifications: Notifications
) -> None:
    names = [str(number) for number in range(300)]
    for name in names:
        await registry.register(device(name, "websocket"))
    await admit(registry, *(push(name, name) for name in names))
    await until(lambda: len(notifications) == 2)
    sent = b"".join(data for _, data in notifications)
    assert {sent[start : start + 16] for start in range(0, len(sent), 16)} == {fingerprint(name)[:16] for name in names}


# Lifecycle


async def test_an_open_registry_passes_its_check(registry: Registry) -> None:
    await registry.check()


async def test_a_closed_registry_is_busy(registry: Registry) -> None:
    await registry.close()
    await registry.close()
    for call in (
        registry.check(),
        registry.notify("sockets", b""),
        registry.device(fingerprint("phone")),
        registry.register(device()),
        registry.use_nonce(b"nonce", NOW),
        registry.admit(SERVER, [push("a")], NOW, FREE),
        registry.record_outcomes([AttemptOutcome(SERVER, "a", "delivered")], NOW),
        registry.claim("apns", NOW, 1),
        registry.sweep(NOW, 1),
        registry.trust_first(server("first")),
    ):
        with pytest.raises(RegistryBusy):
            await call


# A clear that meets its own held push


def challenge(name: str, to: str = "tablet") -> NewPush:
    return push(f"{name}:challenge", to, collapse_id=name)


def clear(name: str, to: str = "tablet", **fields: Any) -> NewPush:
    return push(f"{name}:clear", to, collapse_id=name, exempt=True, **fields)


async def held_by(registry: Registry, name: str = "tablet") -> list[str]:
    return keys_of(await registry.pending_for([fingerprint(name)], NOW))


async def test_a_clear_withdraws_its_push_that_was_not_sent_and_neither_is_sent(registry: Registry) -> None:
    await registry.register(device("tablet", "websocket"))
    await admit(registry, challenge("a"), challenge("b"))
    (answer,) = await admit(registry, clear("a"), now=NOW + 1)
    assert (answer.status, answer.push_id, answer.device) == ("delivered", clear("a").push_id, None)
    assert await statuses(registry, "a:challenge", "a:clear") == [("failed", CLEARED), ("delivered", None)]
    assert (
        (await outcome(registry, "a:challenge")).push.payload
        == (await outcome(registry, "a:clear")).push.payload
        == b""
    )
    assert await held_by(registry) == ["b:challenge"]
    # A repeat, whose first answer was lost, changes nothing.
    assert (await admit(registry, clear("a")))[0].status == "delivered"
    assert await held_by(registry) == ["b:challenge"]
    assert await registry.backlog() == 1


async def test_a_clear_of_a_push_that_a_connection_got_is_sent(registry: Registry) -> None:
    await registry.register(device("tablet", "websocket"))
    await admit(registry, challenge("a"))
    assert await held_by(registry) == ["a:challenge"]
    assert (await admit(registry, clear("a")))[0].status == "queued"
    assert await held_by(registry) == ["a:challenge", "a:clear"]


@pytest.mark.parametrize("platform", ["apns", "fcm"])
async def test_a_clear_withdraws_no_push_to_a_provider(registry: Registry, platform: Platform) -> None:
    await registry.register(device("tablet", platform))
    await admit(registry, challenge("a"))
    assert (await admit(registry, clear("a")))[0].status == "queued"
    assert await statuses(registry, "a:challenge", "a:clear") == [("queued", None)] * 2


async def test_a_clear_withdraws_no_push_of_another_server_device_or_subject(registry: Registry) -> None:
    for name in ("tablet", "laptop"):
        await registry.register(device(name, "websocket"))
    await registry.admit(OTHER_SERVER, [challenge("a")], NOW, FREE)
    await admit(
        registry,
        challenge("b"),
        push("plain", "tablet"),
        msgspec.structs.replace(challenge("a", "laptop"), push_key="x", push_id=b"x" * 16),
    )
    assert [one.status for one in await admit(registry, clear("a"))] == ["queued"]
    assert await held_by(registry) == ["a:challenge", "b:challenge", "plain", "a:clear"]
    assert await held_by(registry, "laptop") == ["x"]


async def test_cancelled_challenges_of_a_device_without_a_connection_hold_no_place(registry: Registry) -> None:
    """Each of nineteen challenges and their clears would take two places, and evict the push of another owner."""
    await registry.register(device("tablet", "websocket"))
    await admit(registry, challenge("other"))
    for number in range(19):
        await admit(registry, challenge(f"{number}"))
        await admit(registry, clear(f"{number}"))
    assert await held_by(registry) == ["other:challenge"]


async def test_a_clear_and_a_connection_at_the_same_time_never_leave_a_sent_push_without_its_clear(
    registry: Registry,
) -> None:
    await registry.register(device("tablet", "websocket"))
    for number in range(20):
        await admit(registry, challenge(f"{number}"))
        sent, (answer,) = await all_of(
            registry.pending_for([fingerprint("tablet")], NOW), admit(registry, clear(f"{number}"))
        )
        if f"{number}:challenge" in keys_of(sent):
            assert answer.status == "queued"
        for key in keys_of(await registry.pending_for([fingerprint("tablet")], NOW)):
            await record(registry, key, "delivered")


# Owners: the requesters of one server


async def test_an_owner_does_not_evict_the_push_of_another_owner_of_the_same_server(registry: Registry) -> None:
    await registry.register(device("tablet", "websocket"))
    await admit(registry, push("other", "tablet", owner="B"))
    for number in range(3 * MAX_HELD):
        await admit(registry, push(f"{number}", "tablet", owner="A"))
    held = await held_by(registry)
    assert held[0] == "other"
    assert held[1:] == [f"{number}" for number in range(2 * MAX_HELD + 1, 3 * MAX_HELD)]
    assert await statuses(registry, "0", "other") == [("failed", SUPERSEDED), ("queued", None)]


async def test_owners_share_what_a_device_holds(registry: Registry) -> None:
    await registry.register(device("tablet", "websocket"))
    for owner in "ABC":
        for number in range(MAX_HELD):
            await admit(registry, push(f"{owner}{number}", "tablet", owner=owner))
    held = await held_by(registry)
    assert len(held) == MAX_HELD
    assert sorted(sum(key.startswith(owner) for key in held) for owner in "ABC") == [6, 7, 7]


async def test_an_owner_does_not_use_up_the_rate_of_another_owner(registry: Registry) -> None:
    await registry.register(device())
    rate = Rate(10, burst=3)
    for kind in ("push", "clear"):
        exempt = kind == "clear"
        flood = [push(f"{kind} {number}", owner="A", exempt=exempt) for number in range(60)]
        assert (await admit(registry, *flood, rate=rate))[-1].status == "rate_limited"
        assert (await admit(registry, push(f"{kind} of B", owner="B", exempt=exempt), rate=rate))[0].status == "queued"


async def test_the_owner_of_a_push_is_stored(registry: Registry) -> None:
    await registry.register(device("tablet", "websocket"))
    await admit(registry, push("a", "tablet", owner="A"))
    (held,) = await registry.pending_for([fingerprint("tablet")], NOW)
    assert held.push.owner == "A"


async def test_the_traceparent_of_a_push_is_stored_until_its_acknowledgement(registry: Registry) -> None:
    creation = b"\x01" + bytes(range(1, 25))
    await registry.register(device("tablet", "websocket"))
    await registry.register(device("phone"))
    await admit(registry, push("held", "tablet", traceparent=creation), push("sent", traceparent=creation))
    await admit(registry, push("not sampled", "tablet"), now=NOW + 1)
    pending = await registry.pending_for([fingerprint("tablet")], NOW)
    assert [one.push.traceparent for one in pending] == [creation, None]
    ((claimed, _),) = await registry.claim("apns", NOW + LEASE_SECONDS + 1, 10)
    assert claimed.push.traceparent == creation
    acknowledged = await registry.acknowledge(fingerprint("tablet"), pending[0].push.push_id, NOW)
    assert acknowledged is not None
    assert acknowledged.push.traceparent == creation
    assert (await outcome(registry, "sent")).push.traceparent == creation


# Histories


EVERY = bytes(32), b"\xff" * 32


async def history(registry: Registry, name: str = "phone", now: float = NOW, server_id: bytes = SERVER) -> History:
    found = await registry.history(server_id, fingerprint(name), fingerprint(name), now)
    assert found is not None
    return found


def past(found: History) -> list[tuple[Any, ...]]:
    return [(one.push_key, one.status, one.error, one.attempts, one.created_at, one.ended_at) for one in found.pushes]


async def test_a_history_has_what_became_of_each_push_before_and_after_it_expired(registry: Registry) -> None:
    await registry.register(device())
    await registry.register(device("tablet", "websocket"))
    for number, key in enumerate(("delivered", "refused", "waits")):
        await admit(registry, push(key, expires_at=NOW + 100), now=NOW + number)
    await admit(registry, push("fetched", "tablet", expires_at=NOW + 100))
    await record(registry, "delivered", "delivered", now=NOW + 5)
    await record(registry, "refused", "failed", "BadTopic", now=NOW + 6)
    await registry.claim("apns", NOW + 2 + LEASE_SECONDS, 9)
    await record(registry, "waits", "queued", "503", NOW + 50, now=NOW + 40)
    await registry.pending_for([fingerprint("tablet")], NOW + 7)
    await registry.acknowledge(fingerprint("tablet"), push("fetched").push_id, NOW + 8)
    await registry.acknowledge(fingerprint("tablet"), push("fetched").push_id, NOW + 9)
    found = await history(registry)
    assert past(found) == [
        ("waits", "queued", "503", 2, NOW + 2, None),
        ("refused", "failed", "BadTopic", 1, NOW + 1, NOW + 6),
        ("delivered", "delivered", None, 1, NOW, NOW + 5),
    ]
    assert [one.due for one in found.pushes] == [NOW + 50, 0, 0]
    assert found.pushes[0].push_id == push("waits").push_id.hex()
    assert found.device == msgspec.structs.replace(device(), used=True)
    assert past(await history(registry, "tablet")) == [("fetched", "delivered", None, 1, NOW, NOW + 8)]
    assert await registry.sweep(NOW + 100, 100) >= 4
    assert past(await history(registry, now=NOW + 100)) == [
        ("waits", "failed", "expired", 2, NOW + 2, NOW + 100),
        ("refused", "failed", "BadTopic", 1, NOW + 1, NOW + 6),
        ("delivered", "delivered", None, 1, NOW, NOW + 5),
    ]
    assert past(await history(registry, "tablet")) == [("fetched", "delivered", None, 1, NOW, NOW + 8)]


async def test_a_history_has_the_newest_ten_pushes(registry: Registry) -> None:
    await registry.register(device())
    for number in range(MAX_HISTORY + 5):
        await admit(registry, push(str(number), expires_at=NOW + 100 + number % 3), now=NOW + number)
        await record(registry, str(number), "delivered", now=NOW + number)
    expected = [str(number) for number in reversed(range(5, MAX_HISTORY + 5))]
    for now in (NOW + 50, NOW + 100, NOW + 101, NOW + 102):
        # Of each sweep a part: some pushes are in the queue, some in the history.
        await registry.sweep(now, 3)
        assert [one.push_key for one in (await history(registry, now=now)).pushes] == expected
    while await registry.sweep(NOW + 200, 4):
        assert [one.push_key for one in (await history(registry, now=NOW + 200)).pushes] == expected
    await admit(registry, push("new", expires_at=NOW + 300), now=NOW + 200)
    found = await history(registry, now=NOW + 200)
    assert [one.push_key for one in found.pushes] == ["new", *expected[:-1]]


async def test_each_way_to_end_has_its_time(registry: Registry) -> None:
    for name in ("late", "dead"):
        await registry.register(device(name))
    for name in ("full", "cleared"):
        await registry.register(device(name, "websocket"))
    await admit(registry, push("late", "late", expires_at=NOW + 31), push("dead", "dead"))
    assert await registry.claim("apns", NOW + LEASE_SECONDS + 5, 1) == []
    assert past(await history(registry, "late")) == [("late", "failed", "expired", 1, NOW, NOW + LEASE_SECONDS + 5)]
    await registry.evict(fingerprint("dead"), "gone", device("dead").token, NOW + 6)
    found = await history(registry, "dead")
    assert past(found) == [("dead", "token_evicted", "gone", 1, NOW, NOW + 6)]
    assert (found.device and found.device.evicted, found.evicted_at) == ("gone", NOW + 6)
    for number in range(MAX_HELD + 1):
        await admit(registry, push(f"full {number}", "full"), now=NOW + number)
    (superseded,) = [one for one in (await outcome(registry, "full 0"),) if one.status == "failed"]
    assert (superseded.error, superseded.ended_at) == (SUPERSEDED, NOW + MAX_HELD)
    await admit(registry, push("shown", "cleared", collapse_id="c"))
    await admit(registry, push("clear", "cleared", collapse_id="c", exempt=True), now=NOW + 2)
    assert past(await history(registry, "cleared")) == [
        ("clear", "delivered", None, 0, NOW + 2, NOW + 2),
        ("shown", "failed", CLEARED, 0, NOW, NOW + 2),
    ]


async def test_a_server_reads_its_own_pushes_only(registry: Registry) -> None:
    await registry.register(device())
    await registry.register(device("tablet"))
    await admit(registry, push("mine"))
    await registry.admit(OTHER_SERVER, [push("theirs"), push("tablet", "tablet")], NOW, FREE)
    for swept in (False, True):
        if swept:
            await registry.sweep(NOW + 300, 10)
        mine, theirs = await history(registry), await history(registry, server_id=OTHER_SERVER)
        assert [one.push_key for one in mine.pushes] == ["mine"]
        assert [one.push_key for one in theirs.pushes] == ["theirs"]
        assert (await history(registry, "tablet")).pushes == []
        # A beginning matches devices of this server alone, so that it reveals none of another.
        found = await registry.history(SERVER, *EVERY, NOW)
        assert found is not None
        assert found.fingerprint == fingerprint("phone")
        with pytest.raises(AmbiguousFingerprint):
            await registry.history(OTHER_SERVER, *EVERY, NOW)
    assert await registry.history(hashlib.sha256(b"third").digest(), *EVERY, NOW) is None


async def test_a_beginning_finds_the_only_device_whose_pushes_wait_ended_or_expired(registry: Registry) -> None:
    for name in ("waits", "ended", "expired"):
        await registry.register(device(name, "websocket"))
    for name, until in (("waits", NOW + 500), ("ended", NOW + 500), ("expired", NOW + 1)):
        await admit(registry, push(name, name, expires_at=until))
    await registry.acknowledge(fingerprint("ended"), push("ended").push_id, NOW)
    await registry.sweep(NOW + 1, 10)
    for name in ("waits", "ended", "expired"):
        text = fingerprint(name).hex()[:5]
        first, last = (bytes.fromhex(text.ljust(64, filler)) for filler in "0f")
        found = await registry.history(SERVER, first, last, NOW)
        assert found is not None
        assert [one.push_key for one in found.pushes] == [name]
    with pytest.raises(AmbiguousFingerprint):
        await registry.history(SERVER, *EVERY, NOW)
    low = bytes(32), bytes(31) + b"\1"
    assert await registry.history(SERVER, *low, NOW) is None


async def test_an_unregistered_device_leaves_no_history(registry: Registry) -> None:
    await registry.register(device())
    await admit(registry, push("old", expires_at=NOW + 1), push("new"))
    await registry.sweep(NOW + 1, 10)
    assert len((await history(registry)).pushes) == 2
    await registry.unregister(fingerprint("phone"))
    # Until it expires, the server may still query the outcome of a push: it is in the history, too.
    found = await history(registry)
    assert past(found) == [("new", "not_registered", None, 1, NOW, None)]
    assert (found.device, found.evicted_at) == (None, None)
    await registry.sweep(NOW + 300, 10)
    assert (await history(registry)).pushes == []
    assert await registry.forget_histories(0, NOW) == 0


async def test_histories_are_kept_for_a_week(registry: Registry) -> None:
    for name in ("phone", "tablet"):
        await registry.register(device(name))
    await admit(registry, push("old"), push("tablet", "tablet"))
    await registry.sweep(NOW + 300, 10)
    later = NOW + HISTORY_SECONDS
    await admit(registry, push("new", expires_at=later + 1), now=later - 1)
    await registry.sweep(later + 1, 10)
    assert [one.push_key for one in (await history(registry, now=later - 1)).pushes] == ["new", "old"]
    assert [one.push_key for one in (await history(registry, now=later)).pushes] == ["new"]
    # Too old to be read, whether it is deleted or not.
    found = await registry.history(SERVER, *EVERY, later)
    assert found is not None
    assert found.fingerprint == fingerprint("phone")
    assert await registry.forget_histories(10, NOW) == 0
    assert await registry.forget_histories(10, NOW + 1) == 1
    assert await registry.forget_histories(10, NOW + 1) == 0
    assert len((await history(registry, now=later)).pushes) == 1


async def test_over_the_limit_the_server_with_the_most_histories_loses_the_oldest(registry: Registry) -> None:
    names = [f"device {number}" for number in range(6)]
    for number, name in enumerate(names):
        await registry.register(device(name))
        await admit(registry, push(name, name, expires_at=NOW + 100), now=NOW - 3600 * (9 - number))
    await registry.admit(OTHER_SERVER, [push("theirs", names[0], expires_at=NOW + 100)], NOW, FREE)
    await registry.sweep(NOW + 100, 100)
    assert await registry.forget_histories(7, 0) == 0
    assert await registry.forget_histories(4, 0) == 3
    kept = [bool((await history(registry, name)).pushes) for name in names]
    assert kept == [False, False, False, True, True, True]
    assert (await history(registry, names[0], server_id=OTHER_SERVER)).pushes
    assert await registry.forget_histories(4, 0) == 0
    # A history that is written again counts once.
    await admit(registry, push("again", names[5], expires_at=NOW + 100), now=NOW + 9)
    await registry.sweep(NOW + 100, 100)
    assert await registry.forget_histories(4, 0) == 0
    assert await registry.forget_histories(0, 0) == 3
    assert await registry.forget_histories(0, 0) == 1
    assert await registry.forget_histories(0, 0) == 0


async def test_concurrent_sweeps_and_outcomes_lose_no_push_and_keep_none_twice(registry: Registry) -> None:
    await registry.register(device())
    keys = [str(number) for number in range(40)]
    for number, key in enumerate(keys):
        await admit(registry, push(key, expires_at=NOW + 1), now=NOW + number / 1000)
    calls: list[Coroutine[Any, Any, Any]] = [record(registry, key, "delivered") for key in keys]
    calls += [registry.sweep(NOW + 1, 3) for _ in range(20)]
    calls += [history(registry) for _ in range(20)]
    for found in await all_of(*calls):
        if isinstance(found, History):
            assert len({one.push_id for one in found.pushes}) == len(found.pushes) == MAX_HISTORY
    while await registry.sweep(NOW + 1, 100):
        pass
    assert [one.push_key for one in (await history(registry)).pushes] == keys[: -MAX_HISTORY - 1 : -1]
    assert {(one.status, one.error) for one in (await history(registry)).pushes} <= {
        ("delivered", None),
        ("failed", "expired"),
    }


async def test_a_history_has_no_token_and_no_payload(registry: Registry) -> None:
    await registry.register(device())
    await admit(registry, push("a"), push("b", expires_at=NOW + 1))
    await registry.sweep(NOW + 1, 10)
    found = await history(registry)
    assert PAYLOAD.hex() not in repr(found.pushes)
    assert repr(PAYLOAD)[2:-1] not in repr(found.pushes)
