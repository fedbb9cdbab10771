"""The lifecycle of a challenge, with a clock that the test moves."""

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
from sigil.protocol.encoding.ids import parse_uuid
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
from sigil.protocol.messages.challenges import ChallengeCreated, ChallengeStatus
from tests.support.services import CALLER, OTHER_CALLER, START, Services, all_reads_before_any_transaction

DEVICE = Device.from_secret("ES256", b"\x07" * 32)


@pytest.fixture
def services() -> Services:
    return Services()


async def state_of(services: Services, challenge_id: str) -> ChallengeStatus:
    return await services.challenges.status(CALLER, challenge_id)


def test_no_transition_leaves_a_final_state() -> None:
    assert {state for state, _ in TRANSITIONS} == {State.PENDING}
    assert set(TRANSITIONS.values()) == set(State) - {State.PENDING}


async def test_a_challenge_expires_at_the_second_in_expires_at(services: Services) -> None:
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


async def test_a_sweep_reports_an_expiry_once(services: Services) -> None:
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


async def test_the_sweep_deletes_every_row_of_an_ended_challenge(services: Services) -> None:
    for n in range(3):
        created = await services.create_challenge(DEVICE, key=f"key-{n}")
        await services.pending_ids(DEVICE)
        await services.reject(DEVICE, created)
        services.clock.now += 1
    services.clock.now += 2000
    await services.sweep()
    assert services.store.usage().used == Services().store.usage().used


async def test_the_first_answer_counts_and_the_others_get_the_final_state(services: Services) -> None:
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
async def test_another_device_changes_nothing(services: Services, wrong: Device) -> None:
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


async def test_all_codes_are_equally_likely() -> None:
    """There are 256 byte values and 100 codes: the values from 200 on would make the first 56 codes more likely."""
    drawn = iter([255, 200, 199])
    services = Services(randomness=lambda length: bytes([next(drawn)]) if length == 1 else os.urandom(length))
    assert (await services.create_challenge(DEVICE, matching=True)).match_code == "99"


async def test_the_right_code_is_accepted_after_two_wrong_codes(services: Services) -> None:
    created = await services.create_challenge(DEVICE, matching=True)
    assert created.match_code is not None
    for _ in range(2):
        with pytest.raises(InvalidSignature):
            await services.approve(DEVICE, created, f"{(int(created.match_code) + 50) % 100:02d}")
    assert (await services.approve(DEVICE, created, created.match_code)).verified


async def test_the_setting_overrides_a_request_without_number_matching() -> None:
    services = Services(ChallengePolicy(number_matching=True))
    assert (await services.create_challenge(DEVICE)).match_code is not None


async def test_the_pending_limit_counts_by_time_and_by_owner(services: Services) -> None:
    for _ in range(5):
        await services.create_challenge(DEVICE, seconds=60)
    with pytest.raises(TooManyPending) as refused:
        await services.create_challenge(DEVICE)
    assert 0 < refused.value.retry_after <= 61
    await services.create_challenge(DEVICE, OTHER_CALLER)
    services.clock.now += 60
    await services.create_challenge(DEVICE)


async def test_an_end_frees_a_place_below_the_pending_limit(services: Services) -> None:
    challenges = [await services.create_challenge(DEVICE) for _ in range(5)]
    await services.approve(DEVICE, challenges[0])
    await services.challenges.cancel(CALLER, challenges[1].challenge_id)
    await services.create_challenge(DEVICE)
    await services.create_challenge(DEVICE)
    with pytest.raises(TooManyPending):
        await services.create_challenge(DEVICE)


async def test_ten_creations_per_minute_are_allowed_and_no_more(services: Services) -> None:
    for _ in range(10):
        await services.approve(DEVICE, await services.create_challenge(DEVICE))
    with pytest.raises(RateLimited) as refused:
        await services.create_challenge(DEVICE)
    assert refused.value.retry_after <= 6
    services.clock.now += refused.value.retry_after
    await services.create_challenge(DEVICE)


async def test_each_unknown_trigger_mutes_an_owner_for_longer() -> None:
    services = Services(ChallengePolicy(limits=Limits(per_minute=0)))
    for muted in (60, 120, 240, 480, 900, 900):
        await services.reject(DEVICE, await services.create_challenge(DEVICE), "unknown_trigger")
        with pytest.raises(RateLimited) as refused:
            await services.create_challenge(DEVICE)
        assert muted - 1 <= refused.value.retry_after <= muted + 1
        await services.approve(DEVICE, await services.create_challenge(DEVICE, OTHER_CALLER))
        services.clock.now += refused.value.retry_after


async def test_an_approval_clears_past_mutes() -> None:
    services = Services(ChallengePolicy(limits=Limits(per_minute=0)))
    for _ in range(2):
        await services.reject(DEVICE, await services.create_challenge(DEVICE), "unknown_trigger")
        services.clock.now += 61
        await services.approve(DEVICE, await services.create_challenge(DEVICE))


async def test_an_idempotency_key_returns_the_first_response_byte_for_byte(services: Services) -> None:
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
    """Whether the old challenge is swept before the key is used again, after that, or never."""
    first = await services.create_challenge(DEVICE, key="once")
    services.clock.now += 901
    if swept[0]:
        await services.sweep()
    second = await services.create_challenge(DEVICE, key="once")
    assert second.challenge_id != first.challenge_id
    if swept[1]:
        await services.sweep()
    assert await services.create_challenge(DEVICE, key="once") == second


async def test_a_full_store_rejects_creations_and_accepts_answers(services: Services) -> None:
    challenges: list[tuple[Device, ChallengeCreated]] = []

    async def fill() -> None:
        while True:
            device = Device.generate("Ed25519")
            challenges.append((device, await services.create_challenge(device)))

    with pytest.raises(Overloaded):
        await fill()
    for device, created in challenges[:3]:
        assert (await services.approve(device, created)).verified
    await services.challenges.cancel(CALLER, challenges[3][1].challenge_id)


async def test_a_device_gets_the_pending_challenges_of_every_owner_and_no_ended_one(services: Services) -> None:
    kept = [await services.create_challenge(DEVICE), await services.create_challenge(DEVICE, OTHER_CALLER)]
    await services.approve(DEVICE, await services.create_challenge(DEVICE))
    await services.create_challenge(Device.generate())
    assert sorted(await services.pending_ids(DEVICE)) == sorted(item.challenge_id for item in kept)
    with pytest.raises(InvalidSignature):
        await services.pending_ids(DEVICE)


async def test_a_device_without_challenges_costs_no_row(services: Services) -> None:
    before = services.store.usage().used
    assert await services.pending_ids(Device.generate()) == []
    assert services.store.usage().used == before


async def test_another_owner_gets_not_found(services: Services) -> None:
    created = await services.create_challenge(DEVICE)
    for look in (services.challenges.status, services.challenges.cancel):
        with pytest.raises(ChallengeNotFound):
            await look(OTHER_CALLER, created.challenge_id)


async def test_concurrent_requests_with_one_idempotency_key_create_one_challenge(services: Services) -> None:
    async with all_reads_before_any_transaction(services.store, 3):
        created = await asyncio.gather(*(services.create_challenge(DEVICE, key="once") for _ in range(3)))
    assert created[0] == created[1] == created[2]
    assert services.events == ["challenge_created"]
    assert await services.pending_ids(DEVICE) == [created[0].challenge_id]


async def test_a_device_gets_only_its_own_challenges_even_if_two_share_a_ledger(services: Services) -> None:
    """A ledger key is a part of the fingerprint: a collision of two devices is unlikely, and harmless."""
    foreign, own = await services.create_challenge(Device.generate()), await services.create_challenge(DEVICE)
    expires_at = int(START) + 300
    pending = tuple((parse_uuid(created.challenge_id) or b"", expires_at) for created in (foreign, own))
    row = Ledger((Tally(CALLER.owner[:8], pending),))
    await services.store.transact([], lambda now, rows: Decision(None, ((ledger_key(DEVICE.public.wire), row),)))
    assert await services.pending_ids(DEVICE) == [own.challenge_id]


async def test_of_concurrent_cancellations_one_is_reported() -> None:
    services = Services()
    created = await services.create_challenge(DEVICE)
    async with all_reads_before_any_transaction(services.store, 3):
        cancellations = await asyncio.gather(
            *(services.challenges.cancel(CALLER, created.challenge_id) for _ in range(3))
        )
    assert {answer.status for answer in cancellations} == {"cancelled"}
    assert services.events == ["challenge_created", "challenge_cancelled"]


async def test_of_concurrent_wrong_codes_the_third_reports_the_end() -> None:
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
async def test_a_clock_that_is_set_back_blocks_no_device_and_extends_no_challenge(
    services: Services, days: int
) -> None:
    created = await services.create_challenge(DEVICE)
    other = Device.generate()
    for _ in range(5):
        await services.create_challenge(other)
    await services.reject(DEVICE, await services.create_challenge(DEVICE), "unknown_trigger")
    services.clock.step(days * 86_400)
    with pytest.raises(RateLimited) as muted:
        await services.create_challenge(DEVICE)
    assert muted.value.retry_after <= 901
    with pytest.raises(TooManyPending) as full:
        await services.create_challenge(other)
    assert full.value.retry_after <= 301
    services.clock.now += 299
    assert (await state_of(services, created.challenge_id)).status == "pending"
    services.clock.now += 1
    with pytest.raises(ChallengeExpired):
        await services.approve(DEVICE, created)
    assert (await state_of(services, created.challenge_id)).status == "expired"


async def test_after_a_clock_was_set_back_the_rate_limit_lasts_a_minute_at_most() -> None:
    services = Services(ChallengePolicy(limits=Limits(max_pending=100)))
    for _ in range(10):
        await services.create_challenge(DEVICE)
    services.clock.step(-86_400)
    with pytest.raises(RateLimited) as refused:
        await services.create_challenge(DEVICE)
    assert refused.value.retry_after <= 60


async def test_a_long_poll_ends_on_time_although_the_clock_was_set_back(services: Services) -> None:
    created = await services.create_challenge(DEVICE)
    poll = asyncio.create_task(services.challenges.status(CALLER, created.challenge_id, wait=1))
    while not len(services.long_polls):
        await asyncio.sleep(0)
    services.clock.now -= 3
    assert (await asyncio.wait_for(poll, 20)).status == "pending"


async def test_a_long_poll_is_woken_by_an_end_between_its_read_and_its_sleep(services: Services) -> None:
    created = await services.create_challenge(DEVICE)
    poll = asyncio.create_task(services.challenges.status(CALLER, created.challenge_id, wait=25))
    while not len(services.long_polls):
        await asyncio.sleep(0)
    await services.approve(DEVICE, created)
    services.long_polls.wake_all()
    assert (await asyncio.wait_for(poll, 20)).status == "verified"


async def test_draining_ends_every_long_poll_at_once(services: Services) -> None:
    created = await services.create_challenge(DEVICE)
    poll = asyncio.create_task(services.challenges.status(CALLER, created.challenge_id, wait=25))
    while not len(services.long_polls):
        await asyncio.sleep(0)
    services.long_polls.drain()
    assert (await asyncio.wait_for(poll, 20)).status == "pending"
    assert (await services.challenges.status(CALLER, created.challenge_id, wait=25)).status == "pending"
    assert len(services.long_polls) == 0
