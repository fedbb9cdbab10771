"""The life of a challenge under a clock that the test moves."""

from __future__ import annotations

import asyncio
import itertools
import os

import pytest

from sigil.challenges.service import ChallengePolicy
from sigil.core.challenge import TRANSITIONS, State, ledger_key
from sigil.core.device_ledger import Ledger, Limits, Tally
from sigil.core.session_store import Decision
from sigil.device import Device
from sigil.protocol.errors import (
    ChallengeAlreadyUsed,
    ChallengeExpired,
    ChallengeNotFound,
    IdempotencyConflict,
    InvalidSignature,
    Overloaded,
    RateLimited,
    TooManyPending,
)
from sigil.protocol.ids import parse_uuid
from sigil.protocol.messages import ChallengeCreated, ChallengeStatus
from tests.support.services import CALLER, OTHER_CALLER, START, Services, all_reads_before_any_transaction

DEVICE = Device.from_secret("ES256", b"\x07" * 32)


@pytest.fixture
def services() -> Services:
    return Services()


async def state_of(services: Services, challenge_id: str) -> ChallengeStatus:
    return await services.challenges.status(CALLER, challenge_id)


def test_no_final_state_has_a_way_out() -> None:
    assert {state for state, _ in TRANSITIONS} == {State.PENDING}
    assert set(TRANSITIONS.values()) == set(State) - {State.PENDING}


async def test_a_challenge_expires_at_the_second_that_it_names(services: Services) -> None:
    created = await services.create_challenge(DEVICE, seconds=30)
    services.clock.now = int(START) + 29.999
    assert (await state_of(services, created.challenge_id)).status == "pending"
    services.clock.now = int(START) + 30
    assert (await state_of(services, created.challenge_id)).status == "expired"
    with pytest.raises(ChallengeExpired):
        await services.approve(DEVICE, created)


async def test_expiry_reads_the_same_before_and_after_the_sweep(services: Services) -> None:
    created = await services.create_challenge(DEVICE, seconds=30)
    services.clock.now += 31
    before = await state_of(services, created.challenge_id)
    await services.sweep()
    assert await state_of(services, created.challenge_id) == before
    assert services.events == ["challenge_created", "challenge_expired"]
    with pytest.raises(ChallengeExpired):
        await services.approve(DEVICE, created)


async def test_a_sweep_tells_of_an_expiry_once(services: Services) -> None:
    await services.create_challenge(DEVICE, seconds=30)
    services.clock.now += 31
    await services.sweep()
    await services.sweep()
    assert services.events.count("challenge_expired") == 1


@pytest.mark.parametrize("swept", [True, False])
async def test_a_result_is_readable_for_ten_minutes(services: Services, swept: bool) -> None:
    created = await services.create_challenge(DEVICE)
    await services.approve(DEVICE, created)
    services.clock.now = int(START) + 599.9
    if swept:
        await services.sweep()
    assert (await state_of(services, created.challenge_id)).status == "verified"
    services.clock.now = int(START) + 600
    if swept:
        await services.sweep()
    with pytest.raises(ChallengeNotFound):
        await state_of(services, created.challenge_id)


async def test_the_sweep_leaves_nothing_of_what_is_over(services: Services) -> None:
    for n in range(3):
        created = await services.create_challenge(DEVICE, key=f"key-{n}")
        await services.pending_ids(DEVICE)
        await services.reject(DEVICE, created)
        services.clock.now += 1
    services.clock.now += 2000
    await services.sweep()
    assert services.store.usage().used == Services().store.usage().used


async def test_one_answer_counts_and_the_others_are_told_how_it_ended(services: Services) -> None:
    created = await services.create_challenge(DEVICE)
    await services.reject(DEVICE, created)
    for answer in (services.approve, services.reject):
        with pytest.raises(ChallengeAlreadyUsed) as refused:
            await answer(DEVICE, created)
        assert refused.value.details == {"status": "rejected", "decision": "rejected"}
    assert (await state_of(services, created.challenge_id)).status == "rejected"


@pytest.mark.parametrize(
    "wrong", [Device.from_secret("ES256", b"\x08" * 32), Device.from_secret("Ed25519", b"\x07" * 32)]
)
async def test_a_stranger_changes_nothing(services: Services, wrong: Device) -> None:
    created = await services.create_challenge(DEVICE)
    with pytest.raises(InvalidSignature):
        await services.approve(wrong, created)
    assert (await services.approve(DEVICE, created)).status == "verified"


async def test_the_third_wrong_code_ends_the_challenge(services: Services) -> None:
    created = await services.create_challenge(DEVICE, matching=True)
    assert created.match_code is not None
    wrong = f"{(int(created.match_code) + 1) % 100:02d}"
    for _ in range(3):
        assert (await state_of(services, created.challenge_id)).match_code == created.match_code
        with pytest.raises(InvalidSignature):
            await services.approve(DEVICE, created, wrong)
    ended = await state_of(services, created.challenge_id)
    assert (ended.status, ended.reason, ended.match_code) == ("rejected", "wrong_code", None)
    with pytest.raises(ChallengeAlreadyUsed):
        await services.approve(DEVICE, created, created.match_code)


async def test_no_code_is_likelier_than_another() -> None:
    """There are 256 bytes and 100 codes: those from 200 on would make the first 56 codes likelier."""
    drawn = iter([255, 200, 199])
    services = Services(randomness=lambda length: bytes([next(drawn)]) if length == 1 else os.urandom(length))
    assert (await services.create_challenge(DEVICE, matching=True)).match_code == "99"


async def test_two_wrong_codes_leave_the_right_one_good(services: Services) -> None:
    created = await services.create_challenge(DEVICE, matching=True)
    assert created.match_code is not None
    for _ in range(2):
        with pytest.raises(InvalidSignature):
            await services.approve(DEVICE, created, f"{(int(created.match_code) + 50) % 100:02d}")
    assert (await services.approve(DEVICE, created, created.match_code)).verified


async def test_the_setting_beats_a_request_without_number_matching() -> None:
    services = Services(ChallengePolicy(number_matching=True))
    assert (await services.create_challenge(DEVICE)).match_code is not None


async def test_pending_is_counted_by_time_and_by_owner(services: Services) -> None:
    for _ in range(5):
        await services.create_challenge(DEVICE, seconds=60)
    with pytest.raises(TooManyPending) as refused:
        await services.create_challenge(DEVICE)
    assert 0 < refused.value.retry_after <= 61
    await services.create_challenge(DEVICE, OTHER_CALLER)
    services.clock.now += 60
    await services.create_challenge(DEVICE)


async def test_what_ends_makes_room(services: Services) -> None:
    asked = [await services.create_challenge(DEVICE) for _ in range(5)]
    await services.approve(DEVICE, asked[0])
    await services.challenges.cancel(CALLER, asked[1].challenge_id)
    await services.create_challenge(DEVICE)
    await services.create_challenge(DEVICE)
    with pytest.raises(TooManyPending):
        await services.create_challenge(DEVICE)


async def test_ten_creations_a_minute_and_no_more(services: Services) -> None:
    for _ in range(10):
        await services.approve(DEVICE, await services.create_challenge(DEVICE))
    with pytest.raises(RateLimited) as refused:
        await services.create_challenge(DEVICE)
    assert refused.value.retry_after <= 6
    services.clock.now += refused.value.retry_after
    await services.create_challenge(DEVICE)


async def test_unknown_triggers_mute_an_owner_for_longer_each_time() -> None:
    services = Services(ChallengePolicy(limits=Limits(per_minute=0)))
    for muted in (60, 120, 240, 480, 900, 900):
        await services.reject(DEVICE, await services.create_challenge(DEVICE), "unknown_trigger")
        with pytest.raises(RateLimited) as refused:
            await services.create_challenge(DEVICE)
        assert muted - 1 <= refused.value.retry_after <= muted + 1
        await services.approve(DEVICE, await services.create_challenge(DEVICE, OTHER_CALLER))
        services.clock.now += refused.value.retry_after


async def test_an_approval_forgives_past_mutes() -> None:
    services = Services(ChallengePolicy(limits=Limits(per_minute=0)))
    for _ in range(2):
        await services.reject(DEVICE, await services.create_challenge(DEVICE), "unknown_trigger")
        services.clock.now += 61
        await services.approve(DEVICE, await services.create_challenge(DEVICE))


async def test_an_idempotency_key_brings_back_the_first_answer_to_the_byte(services: Services) -> None:
    first = await services.create_challenge(DEVICE, key="once", matching=True)
    assert await services.create_challenge(DEVICE, key="once", matching=True) == first
    await services.approve(DEVICE, first, first.match_code)
    services.clock.now += 30
    assert await services.create_challenge(DEVICE, key="once", matching=True) == first
    assert services.events.count("challenge_created") == 1


async def test_an_idempotency_key_belongs_to_its_owner_and_to_one_body(services: Services) -> None:
    first = await services.create_challenge(DEVICE, key="once")
    assert (await services.create_challenge(DEVICE, OTHER_CALLER, key="once")).challenge_id != first.challenge_id
    with pytest.raises(IdempotencyConflict):
        await services.create_challenge(DEVICE, key="once", body=b"another body")


@pytest.mark.parametrize("swept", list(itertools.product([True, False], repeat=2)))
async def test_an_idempotency_key_is_free_again_with_its_challenge(
    services: Services, swept: tuple[bool, bool]
) -> None:
    """Whether or not the old challenge was swept before the key is used again, or after."""
    first = await services.create_challenge(DEVICE, key="once")
    services.clock.now += 901
    if swept[0]:
        await services.sweep()
    second = await services.create_challenge(DEVICE, key="once")
    assert second.challenge_id != first.challenge_id
    if swept[1]:
        await services.sweep()
    assert await services.create_challenge(DEVICE, key="once") == second


async def test_a_full_store_refuses_to_ask_and_still_takes_answers(services: Services) -> None:
    asked: list[tuple[Device, ChallengeCreated]] = []

    async def fill() -> None:
        while True:
            device = Device.generate("Ed25519")
            asked.append((device, await services.create_challenge(device)))

    with pytest.raises(Overloaded):
        await fill()
    for device, created in asked[:3]:
        assert (await services.approve(device, created)).verified
    await services.challenges.cancel(CALLER, asked[3][1].challenge_id)


async def test_a_device_sees_what_pends_from_every_owner_and_nothing_that_ended(services: Services) -> None:
    kept = [await services.create_challenge(DEVICE), await services.create_challenge(DEVICE, OTHER_CALLER)]
    await services.approve(DEVICE, await services.create_challenge(DEVICE))
    await services.create_challenge(Device.generate())
    assert sorted(await services.pending_ids(DEVICE)) == sorted(item.challenge_id for item in kept)
    with pytest.raises(InvalidSignature):
        await services.pending_ids(DEVICE)


async def test_a_device_that_nobody_asked_costs_no_row(services: Services) -> None:
    before = services.store.usage().used
    assert await services.pending_ids(Device.generate()) == []
    assert services.store.usage().used == before


async def test_another_owner_finds_nothing(services: Services) -> None:
    created = await services.create_challenge(DEVICE)
    for look in (services.challenges.status, services.challenges.cancel):
        with pytest.raises(ChallengeNotFound):
            await look(OTHER_CALLER, created.challenge_id)


async def test_of_several_who_ask_at_once_with_one_idempotency_key_one_makes_a_challenge(services: Services) -> None:
    async with all_reads_before_any_transaction(services.store, 3):
        created = await asyncio.gather(*(services.create_challenge(DEVICE, key="once") for _ in range(3)))
    assert created[0] == created[1] == created[2]
    assert services.events == ["challenge_created"]
    assert await services.pending_ids(DEVICE) == [created[0].challenge_id]


async def test_a_device_is_shown_its_own_challenges_alone_though_two_should_share_a_ledger(services: Services) -> None:
    """Ledgers are named by a part of the fingerprint: that two devices meet there is unlikely, and harmless."""
    foreign, own = await services.create_challenge(Device.generate()), await services.create_challenge(DEVICE)
    expires_at = int(START) + 300
    pending = tuple((parse_uuid(asked.challenge_id) or b"", expires_at) for asked in (foreign, own))
    row = Ledger((Tally(CALLER.owner[:8], pending),))
    await services.store.transact([], lambda now, rows: Decision(None, ((ledger_key(DEVICE.public.wire), row),)))
    assert await services.pending_ids(DEVICE) == [own.challenge_id]


async def test_of_several_who_cancel_at_once_one_tells_of_it() -> None:
    services = Services()
    created = await services.create_challenge(DEVICE)
    async with all_reads_before_any_transaction(services.store, 3):
        told = await asyncio.gather(*(services.challenges.cancel(CALLER, created.challenge_id) for _ in range(3)))
    assert {answer.status for answer in told} == {"cancelled"}
    assert services.events == ["challenge_created", "challenge_cancelled"]


async def test_of_several_wrong_codes_at_once_the_third_tells_of_the_end() -> None:
    services = Services()
    created = await services.create_challenge(DEVICE, matching=True)
    assert created.match_code is not None
    wrong = f"{(int(created.match_code) + 1) % 100:02d}"
    async with all_reads_before_any_transaction(services.store, 6):
        refused = await asyncio.gather(
            *(services.approve(DEVICE, created, wrong) for _ in range(6)), return_exceptions=True
        )
    assert all(isinstance(answer, InvalidSignature) for answer in refused)
    assert services.events.count("signature_failed") == 6
    assert services.events.count("challenge_rejected") == 1


@pytest.mark.parametrize("days", [-1, -1000])
async def test_a_clock_that_is_set_back_shuts_no_device_out_and_gives_no_challenge_a_longer_life(
    services: Services, days: int
) -> None:
    created = await services.create_challenge(DEVICE)
    other = Device.generate()
    for _ in range(5):
        await services.create_challenge(other)
    await services.reject(DEVICE, await services.create_challenge(DEVICE), "unknown_trigger")
    services.clock.now += days * 86_400
    with pytest.raises(RateLimited) as muted:
        await services.create_challenge(DEVICE)
    assert muted.value.retry_after <= 901
    with pytest.raises(RateLimited) as paid:
        await services.create_challenge(other)
    assert paid.value.retry_after <= 60
    assert (await state_of(services, created.challenge_id)).status == "expired"
    with pytest.raises(ChallengeExpired):
        await services.approve(DEVICE, created)


async def test_after_a_clock_was_set_back_the_rate_is_that_of_one_minute_at_most() -> None:
    services = Services(ChallengePolicy(limits=Limits(max_pending=100)))
    for _ in range(10):
        await services.create_challenge(DEVICE)
    services.clock.now -= 86_400
    with pytest.raises(RateLimited) as refused:
        await services.create_challenge(DEVICE)
    assert refused.value.retry_after <= 60


async def test_a_long_poll_ends_on_time_though_the_clock_was_set_back(services: Services) -> None:
    created = await services.create_challenge(DEVICE)
    poll = asyncio.create_task(services.challenges.status(CALLER, created.challenge_id, wait=1))
    while not len(services.long_polls):
        await asyncio.sleep(0)
    services.clock.now -= 3
    assert (await asyncio.wait_for(poll, 20)).status == "pending"


async def test_a_long_poll_hears_of_an_end_that_came_between_its_look_and_its_sleep(services: Services) -> None:
    created = await services.create_challenge(DEVICE)
    poll = asyncio.create_task(services.challenges.status(CALLER, created.challenge_id, wait=25))
    while not len(services.long_polls):
        await asyncio.sleep(0)
    await services.approve(DEVICE, created)
    services.long_polls.wake_all()
    assert (await asyncio.wait_for(poll, 20)).status == "verified"


async def test_draining_answers_every_long_poll_at_once(services: Services) -> None:
    created = await services.create_challenge(DEVICE)
    poll = asyncio.create_task(services.challenges.status(CALLER, created.challenge_id, wait=25))
    while not len(services.long_polls):
        await asyncio.sleep(0)
    services.long_polls.drain()
    assert (await asyncio.wait_for(poll, 20)).status == "pending"
    assert (await services.challenges.status(CALLER, created.challenge_id, wait=25)).status == "pending"
    assert len(services.long_polls) == 0
