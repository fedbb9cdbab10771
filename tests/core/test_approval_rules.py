"""The lifecycle of an approval request, with a clock that the test moves."""

from __future__ import annotations

import asyncio
import json

import pytest

from sigil.challenges.service import ChallengePolicy
from sigil.core.approvals.approval import APPROVAL, TRANSITIONS, State, Vote, vote_key
from sigil.core.approvals.fan_out import FAN_OUT, MEMBERS_AT_ONCE
from sigil.core.challenge import ledger_key
from sigil.core.device_ledger import Limits
from sigil.core.session_store import Decision
from sigil.device import Device
from sigil.protocol.action import Action
from sigil.protocol.encoding.ids import format_uuid
from sigil.protocol.encoding.text import encode_base64
from sigil.protocol.errors import (
    AlreadyAnswered,
    InvalidPublicKey,
    InvalidRequest,
    InvalidSignature,
    MpaClosed,
    MpaExpired,
    MpaNotFound,
    NotEligible,
    Overloaded,
    RateLimited,
    RequestIdConflict,
    TooManyPending,
)
from sigil.protocol.keys import P256_ORDER, SECP256K1_ORDER, Suite
from sigil.protocol.messages import approvals as mpa
from tests.support.services import (
    CALLER,
    IDENTITY,
    OTHER_CALLER,
    START,
    PushServices,
    Services,
    all_reads_before_any_transaction,
    as_status,
)

ANNA, BERT, CARL, DORA, EMIL = (Device.from_secret("ES256", bytes([n]) * 32) for n in range(11, 16))
OTHER_DEVICE = Device.from_secret("Ed25519", b"\x07" * 32)
GROUPS = [[ANNA, BERT], [CARL, DORA], [EMIL]]


@pytest.fixture
def services() -> Services:
    return Services()


def crowd(groups: int, members: int, start: int = 0) -> list[list[Device]]:
    """Ed25519: its keys are parsed quickly."""
    return [
        [Device.from_secret("Ed25519", (start + 1 + n * members + m).to_bytes(32)) for m in range(members)]
        for n in range(groups)
    ]


def test_no_transition_leaves_a_final_state() -> None:
    assert {state for state, _ in TRANSITIONS} == {State.PENDING}
    assert set(TRANSITIONS.values()) == set(State) - {State.PENDING}


async def test_any_two_of_three_groups_approve_by_any_member(services: Services) -> None:
    created = await services.create_approval(GROUPS, 2)
    assert (created.status, created.groups_required, created.groups_total, created.challenges_sent) == (
        "pending",
        2,
        3,
        5,
    )
    first = await services.vote(ANNA, created)
    assert (first.status, first.group_satisfied, first.groups_satisfied, first.quorum_reached) == (
        "recorded", True, 1, False,
    )  # fmt: skip
    assert (await services.vote(BERT, created)).status == "already_satisfied"
    last = await services.vote(DORA, created)
    assert (last.status, last.groups_satisfied, last.quorum_reached) == ("approved", 2, True)
    status = await services.approval_status(created)
    assert (status.status, status.groups_satisfied) == ("approved", [0, 1])
    assert [(vote.group, vote.decision) for vote in status.votes] == [(0, "approved"), (0, "approved"), (1, "approved")]
    assert services.events == ["mpa_created", "mpa_vote", "mpa_vote", "mpa_vote", "mpa_approved"]


async def test_with_continue_a_request_is_rejected_when_too_few_groups_can_approve(services: Services) -> None:
    created = await services.create_approval(GROUPS, 2)
    for device in (ANNA, EMIL):
        assert (await services.vote(device, created, "rejected")).status == "recorded"
    assert (await services.vote(BERT, created, "rejected")).status == "rejected"
    assert (await services.approval_status(created)).status == "rejected"


async def test_with_reject_on_first_one_rejection_suffices_even_from_a_satisfied_group(services: Services) -> None:
    created = await services.create_approval(GROUPS, 2, policy="reject_on_first")
    await services.vote(ANNA, created)
    assert (await services.vote(BERT, created, "rejected", reason="cancelled")).status == "rejected"
    assert (await services.approval_status(created)).votes[1].reason == "cancelled"


async def test_of_concurrent_cancellations_one_is_reported(services: Services) -> None:
    created = await services.create_approval(GROUPS, 2)
    async with all_reads_before_any_transaction(services.store, 3):
        bodies = await asyncio.gather(*(services.approvals.cancel(CALLER, created.request_id) for _ in range(3)))
        cancellations = [as_status(body) for body in bodies]
    assert {answer.status for answer in cancellations} == {"cancelled"}
    assert services.events == ["mpa_created", "mpa_cancelled"]


async def test_the_end_log_has_every_end_once(services: Services) -> None:
    approved, rejected, cancelled, late = [await services.create_approval([[ANNA, BERT], [CARL]], 1) for _ in range(4)]
    await services.vote(ANNA, approved)
    for device in (ANNA, BERT, CARL):
        await services.vote(device, rejected, "rejected")
    for _ in range(2):
        await services.approvals.cancel(CALLER, cancelled.request_id)
    services.clock.now += 301
    await services.sweep()
    ended = [format_uuid(name) for name in (await services.store.read_end_log(0)).ids]
    assert ended == [created.mpa_id for created in (approved, rejected, cancelled, late)]


@pytest.mark.parametrize("swept", [True, False])
async def test_a_request_times_out_at_the_second_in_expires_at_and_is_readable_for_a_day(
    services: Services, swept: bool
) -> None:
    created = await services.create_approval(GROUPS, 2, seconds=60)
    await services.vote(ANNA, created)
    services.clock.now = int(START) + 59.999
    assert (await services.approval_status(created)).status == "pending"
    services.clock.now = int(START) + 60
    if swept:
        await services.sweep()
    assert (await services.approval_status(created)).status == "timeout"
    with pytest.raises(MpaExpired):
        await services.vote(CARL, created)
    with pytest.raises(MpaClosed):
        await services.approvals.cancel(CALLER, created.request_id)
    assert services.events.count("mpa_timeout") == 1
    services.clock.now = int(START) + 60 + 86_399
    assert len((await services.approval_status(created)).votes) == 1
    services.clock.now += 1
    with pytest.raises(MpaNotFound):
        await services.approval_status(created)


@pytest.mark.parametrize("days", [-1, -1000])
async def test_a_clock_that_is_set_back_extends_no_request(services: Services, days: int) -> None:
    created = await services.create_approval(GROUPS, 2)
    await services.vote(ANNA, created)
    services.clock.step(days * 86_400)
    services.clock.now += 299
    assert (await services.approval_status(created)).status == "pending"
    services.clock.now += 1
    assert (await services.approval_status(created)).status == "timeout"
    with pytest.raises(MpaExpired):
        await services.vote(CARL, created)


async def test_a_second_vote_is_rejected_before_and_after_the_end(services: Services) -> None:
    created = await services.create_approval(GROUPS, 2)
    await services.vote(ANNA, created)
    with pytest.raises(AlreadyAnswered):
        await services.vote(ANNA, created, "rejected")
    await services.vote(EMIL, created)
    with pytest.raises(AlreadyAnswered):
        await services.vote(ANNA, created)
    with pytest.raises(MpaClosed) as closed:
        await services.vote(CARL, created, "rejected")
    assert closed.value.details == {"status": "approved"}


@pytest.mark.parametrize(("suite", "order"), [("ES256", P256_ORDER), ("ES256K", SECP256K1_ORDER)])
async def test_a_vote_is_stored_with_s_in_the_lower_half_even_if_the_device_signed_the_other(
    services: Services, suite: Suite, order: int
) -> None:
    """An auditor may use a library that rejects the other half, such as libsecp256k1."""
    device = Device.generate(suite)
    created = await services.create_approval([[device]], 1)
    lower = device.sign_vote(json.loads(bytes((await services.approval_status(created)).action_context)), "approved")
    upper = lower[:32] + (order - int.from_bytes(lower[32:])).to_bytes(32)
    await services.approvals.answer(mpa.RespondMpa(**device.vote_body(created.mpa_id, "approved", upper)))
    (vote,) = (await services.approval_status(created)).votes
    assert vote.signature == encode_base64(lower)


async def test_another_device_or_another_signed_text_changes_nothing(services: Services) -> None:
    created, other = await services.create_approval(GROUPS, 2), await services.create_approval([[OTHER_DEVICE]], 1)
    with pytest.raises(InvalidSignature):
        await services.vote(OTHER_DEVICE, created)
    with pytest.raises(InvalidSignature):
        await services.vote(ANNA, created, "approved", signed="rejected")
    with pytest.raises(InvalidSignature):
        await services.vote(ANNA, created, "rejected", signed="approved")
    context = json.loads(bytes((await services.approval_status(other)).action_context))
    elsewhere = ANNA.vote_body(created.mpa_id, "approved", ANNA.sign_vote(context, "approved"))
    with pytest.raises(InvalidSignature):
        await services.approvals.answer(mpa.RespondMpa(**elsewhere))
    assert (await services.approval_status(created)).votes == []
    assert services.events.count("mpa_signature_failed") == 4


@pytest.mark.parametrize("mpa_id", ["", "x", "11111111-1111-4111-8111-111111111111"])
async def test_a_vote_on_an_unknown_request_is_not_found(services: Services, mpa_id: str) -> None:
    response = mpa.RespondMpa(mpa_id, "approved", "AAAA", fingerprint=ANNA.fingerprint)
    with pytest.raises(MpaNotFound):
        await services.approvals.answer(response)


async def test_another_owner_gets_not_found(services: Services) -> None:
    created = await services.create_approval(GROUPS, 2, name="payment-7")
    for call in (services.approvals.status, services.approvals.cancel):
        with pytest.raises(MpaNotFound):
            await call(OTHER_CALLER, "payment-7")
    mine = await services.create_approval(GROUPS, 1, OTHER_CALLER, name="payment-7", body=b"another")
    assert mine.mpa_id != created.mpa_id


async def test_a_repeated_cancellation_is_no_error_and_an_ended_request_cannot_be_cancelled(services: Services) -> None:
    created = await services.create_approval(GROUPS, 2)
    for _ in range(2):
        assert as_status(await services.approvals.cancel(CALLER, created.request_id)).status == "cancelled"
    with pytest.raises(MpaClosed):
        await services.vote(ANNA, created)
    assert services.events.count("mpa_cancelled") == 1
    created = await services.create_approval(GROUPS, 1)
    await services.vote(ANNA, created)
    with pytest.raises(MpaClosed):
        await services.approvals.cancel(CALLER, created.request_id)


async def test_a_repeated_request_is_created_once_and_another_body_with_its_request_id_is_a_conflict(
    services: Services,
) -> None:
    created = await services.create_approval(GROUPS, 1, name="payment-7", seconds=60)
    assert await services.create_approval(GROUPS, 1, name="payment-7", seconds=60) == created
    with pytest.raises(RequestIdConflict):
        await services.create_approval(GROUPS, 2, name="payment-7", body=b"another body")
    await services.vote(ANNA, created)
    again = await services.create_approval(GROUPS, 1, name="payment-7", seconds=60)
    assert (again.mpa_id, again.status) == (created.mpa_id, "approved")
    assert services.events.count("mpa_created") == 1


@pytest.mark.parametrize("swept", [True, False])
async def test_a_request_id_is_free_again_a_day_after_the_end(services: Services, swept: bool) -> None:
    created = await services.create_approval(GROUPS, 1, name="n")
    await services.vote(ANNA, created)
    services.clock.now = int(START) + 86_399
    assert (await services.create_approval(GROUPS, 1, name="n")).mpa_id == created.mpa_id
    services.clock.now += 1
    if swept:
        await services.sweep()
    new = await services.create_approval(GROUPS, 1, name="n", body=b"another body")
    assert new.mpa_id != created.mpa_id
    await services.sweep()
    assert (await services.approval_status(new)).mpa_id == new.mpa_id


async def test_the_sweep_deletes_every_row_of_an_ended_request(services: Services) -> None:
    for end in range(3):
        created = await services.create_approval(GROUPS, 2)
        await services.vote(ANNA, created, "rejected", reason="unknown_trigger" if end == 2 else None)
        if end == 1:
            await services.approvals.cancel(CALLER, created.request_id)
    for _ in range(3):
        services.clock.now += 90_000
        await services.sweep()
    assert services.store.usage().used == 0


async def test_the_ledger_of_a_device_without_challenges_is_deleted_by_the_sweep(services: Services) -> None:
    """Neither the request nor the minute of its rate limit leaves a ledger."""
    await services.create_approval([[ANNA]], 1, seconds=60)
    assert await services.store.get(ledger_key(ANNA.public.wire)) is not None
    for _ in range(2):
        services.clock.now += 61
        await services.sweep()
    assert await services.store.get(ledger_key(ANNA.public.wire)) is None


@pytest.mark.parametrize(
    ("groups", "at"),
    [
        ([[ANNA, BERT], [ANNA]], "$.groups[1].members[0]"),
        ([[ANNA, BERT, ANNA]], "$.groups[0].members[2]"),
    ],
)
async def test_a_device_is_a_member_once(services: Services, groups: list[list[Device]], at: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        await services.create_approval(groups, 1)
    assert refused.value.details["path"] == at


async def test_required_above_the_number_of_groups_is_rejected(services: Services) -> None:
    with pytest.raises(InvalidRequest) as refused:
        await services.create_approval(GROUPS, 4)
    assert refused.value.details["path"] == "$.required"


async def test_the_servers_own_key_is_rejected_as_a_member(services: Services) -> None:
    body = mpa.CreateMpa(
        Action("t", "d"),
        1,
        [mpa.WantedGroup([mpa.WantedMember(encode_base64(key.public.wire))]) for key in IDENTITY.keys.values()],
    )
    with pytest.raises(InvalidPublicKey):
        await services.approvals.request(CALLER, body, b"")


async def test_a_members_limit_rejects_the_whole_request_without_the_member() -> None:
    services = Services(ChallengePolicy(Limits(max_pending=1, per_minute=0)))
    await services.create_challenge(ANNA)
    with pytest.raises(TooManyPending) as refused:
        await services.create_approval(GROUPS, 2)
    assert ANNA.fingerprint[:8] not in refused.value.message
    assert not refused.value.details
    assert await services.create_approval([[CARL, DORA], [EMIL]], 1)
    with pytest.raises(TooManyPending):
        await services.create_challenge(CARL)
    assert await services.create_challenge(BERT)


async def test_a_vote_or_an_end_frees_a_place_below_the_pending_limit(services: Services) -> None:
    services = Services(ChallengePolicy(Limits(max_pending=1, per_minute=0)))
    created = await services.create_approval(GROUPS, 2)
    await services.vote(ANNA, created)
    await services.create_challenge(ANNA)
    with pytest.raises(TooManyPending):
        await services.create_challenge(CARL)
    await services.vote(EMIL, created)
    await services.create_challenge(CARL)


async def test_the_rate_limit_of_a_member_counts_challenges_and_requests() -> None:
    services = Services(ChallengePolicy(Limits(max_pending=100, per_minute=2)))
    await services.create_challenge(ANNA)
    await services.create_approval([[ANNA]], 1)
    with pytest.raises(RateLimited):
        await services.create_approval([[ANNA, BERT]], 1)
    for _ in range(2):
        await services.create_challenge(BERT)


async def test_an_unknown_trigger_mutes_the_owner_for_the_member(services: Services) -> None:
    created = await services.create_approval(GROUPS, 2)
    await services.vote(ANNA, created, "rejected", reason="unknown_trigger")
    with pytest.raises(RateLimited):
        await services.create_challenge(ANNA)
    with pytest.raises(RateLimited):
        await services.create_approval([[ANNA], [OTHER_DEVICE]], 1)
    await services.create_challenge(OTHER_DEVICE)
    await services.create_challenge(ANNA, OTHER_CALLER)


async def test_the_inbox_of_a_device_lists_requests_without_its_vote(services: Services) -> None:
    challenge, created = await services.create_challenge(ANNA), await services.create_approval(GROUPS, 2)
    listed = await services.pending_list(ANNA)
    assert [payload.challenge_id for payload in listed.challenges] == [challenge.challenge_id]
    assert [payload.mpa_id for payload in listed.mpa] == [created.mpa_id]
    await services.vote(ANNA, created)
    services.clock.now += 1
    assert (await services.pending_list(ANNA)).mpa == []
    assert [payload.mpa_id for payload in (await services.pending_list(CARL)).mpa] == [created.mpa_id]
    await services.vote(EMIL, created)
    services.clock.now += 1
    assert (await services.pending_list(CARL)).mpa == []


async def test_with_exclude_requester_the_requester_may_not_vote() -> None:
    services = Services(exclude_requester=True)
    action = Action("deploy", "Deploy", {"requested_by": ANNA.fingerprint})
    created = await services.create_approval(GROUPS, 2, action=action)
    assert created.challenges_sent == 4
    assert (await services.pending_list(ANNA)).mpa == []
    with pytest.raises(NotEligible):
        await services.vote(ANNA, created)
    await services.vote(BERT, created, "rejected")
    assert (await services.vote(EMIL, created, "rejected")).status == "rejected"
    with pytest.raises(InvalidRequest) as refused:
        await services.create_approval([[ANNA], [BERT]], 2, action=action)
    assert refused.value.details["path"] == "$.groups"
    plain = Services()
    assert (await plain.vote(ANNA, await plain.create_approval([[ANNA]], 1, action=action))).status == "approved"


async def test_a_long_poll_ends_with_the_deciding_vote(services: Services) -> None:
    created = await services.create_approval(GROUPS, 2)
    waiting = asyncio.create_task(services.approvals.status(CALLER, created.request_id, 25))
    while not len(services.long_polls):
        await asyncio.sleep(0)
    await services.vote(ANNA, created)
    await services.vote(EMIL, created)
    services.long_polls.wake((await services.store.read_end_log(0)).ids)
    assert as_status(await waiting).status == "approved"


def usable(crowd: list[list[Device]]) -> list[Device]:
    return [device for group in crowd for device in group]


async def test_a_thousand_members_are_pushed_and_cleared_in_batches() -> None:
    services = PushServices(ChallengePolicy(Limits(max_pending=1, per_minute=0)), size=16 << 20)
    groups = crowd(20, 50)
    created = await services.create_approval(groups, 20)
    assert created.challenges_sent == 1000
    assert services.store.count(FAN_OUT) == 1
    await services.fan_outs.run_pending()
    assert services.store.count(FAN_OUT) == 0
    for _ in range(10):
        await services.send_due_pushes()
    assert {push.fingerprint for push in services.relay.pushes} == {device.fingerprint for device in usable(groups)}
    assert len(services.relay.pushes) == 1000
    last = groups[19][49]
    with pytest.raises(TooManyPending):
        await services.create_challenge(last)
    for group in groups:
        await services.vote(group[0], created)
    assert (await services.approval_status(created)).status == "approved"
    services.relay.pushes.clear()
    await services.fan_outs.run_pending()
    for _ in range(10):
        services.clock.now += 2
        await services.send_due_pushes()
    cleared = {push.fingerprint for push in services.relay.pushes}
    assert cleared == {device.fingerprint for group in groups for device in group[1:]}
    await services.create_challenge(last)


@pytest.mark.parametrize("place", [0, MEMBERS_AT_ONCE, 2 * MEMBERS_AT_ONCE + 7])
async def test_a_limit_of_one_of_many_members_leaves_all_ledgers_as_before(place: int) -> None:
    services = Services(ChallengePolicy(Limits(max_pending=1, per_minute=1)), size=16 << 20)
    groups = crowd(4, 40)
    members = usable(groups)
    await services.create_challenge(members[place])
    before = services.store.count(APPROVAL)
    with pytest.raises(TooManyPending):
        await services.create_approval(groups, 1)
    assert services.store.count(APPROVAL) == before
    assert await services.create_approval([[device for device in members[:40] if device is not members[place]]], 1)
    for device in (members[50 + (place == 50)], members[-1]):
        await services.create_challenge(device)


async def test_a_store_that_becomes_full_during_the_creation_of_a_large_request_keeps_none_of_it() -> None:
    services = Services(ChallengePolicy(Limits(max_pending=1, per_minute=0)), size=1 << 20)
    old = Vote(bytes(8_650), 1, 2)
    for number in range(102):
        key = vote_key(b"an earlier one", number)
        await services.store.transact([], lambda _now, _rows, key=key: Decision(None, ((key, old),)))
    before = services.store.usage()
    # There is capacity for all votes, and for some of the members' ledgers before creation stops.
    assert 0.84 * before.size < before.used < 0.85 * before.size
    with pytest.raises(Overloaded):
        await services.create_approval(crowd(4, 40), 1)
    assert services.store.usage() == before


async def test_a_request_is_created_only_with_capacity_for_the_votes_of_all_members() -> None:
    services = Services(ChallengePolicy(Limits(max_pending=20, per_minute=0)), size=32_000)
    groups = crowd(2, 20)
    created = await services.create_approval(groups, 2)
    assert 2 * services.store.usage().used < services.store.usage().size
    with pytest.raises(Overloaded) as refused:
        await services.create_approval(groups, 2)
    assert refused.value.retry_after == 5
    for device in groups[0]:
        await services.vote(device, created, "rejected")
    assert (await services.approval_status(created)).status == "rejected"
    assert services.store.usage().reserved == 0


async def test_concurrent_large_requests_do_not_all_count_the_same_capacity() -> None:
    services = Services(ChallengePolicy(Limits(max_pending=20, per_minute=0)), size=160_000)
    groups = crowd(2, 40)
    outcomes = await asyncio.gather(*(services.create_approval(groups, 1) for _ in range(8)), return_exceptions=True)
    refused = [outcome for outcome in outcomes if isinstance(outcome, Overloaded)]
    assert 0 < services.store.count(APPROVAL) == 8 - len(refused) < 8
    usage = services.store.usage()
    assert usage.used + usage.reserved < usage.size
    assert len((await services.pending_list(groups[0][0])).mpa) == 8 - len(refused)


async def test_two_workers_with_the_same_large_request_at_once_create_it_once() -> None:
    services = Services(ChallengePolicy(Limits(max_pending=2, per_minute=0)), size=16 << 20)
    groups = crowd(4, 40)
    created = await asyncio.gather(*(services.create_approval(groups, 1, name="n") for _ in range(2)))
    assert len({one.mpa_id for one in created}) == 1
    assert services.store.count(APPROVAL) == 1
    assert services.events.count("mpa_created") == 1
    for device in (groups[0][0], groups[3][39]):
        await services.create_challenge(device)


async def test_an_end_during_the_fan_out_stops_the_pushes() -> None:
    services = PushServices(size=16 << 20)
    groups = crowd(4, 40)
    created = await services.create_approval(groups, 1)
    await services.vote(groups[0][0], created)
    await services.fan_outs.run_pending()
    for _ in range(5):
        services.clock.now += 2
        await services.send_due_pushes()
    assert services.relay.pushes == []
    assert (await services.pending_list(groups[3][39])).mpa == []
