"""The outbox under a clock that the test sets: new entries, claims, and what each result of the relay changes."""

from __future__ import annotations

from typing import Any, cast

import msgspec
import pytest

from sigil.challenges.service import ChallengePolicy
from sigil.core.challenge import Challenge, End, State
from sigil.core.device_ledger import Limits
from sigil.core.pushes.delivery import POLL_SECONDS, DeliveryResult, complete, rows_of
from sigil.core.pushes.outbox import (
    CLEAR_SECONDS,
    LEASE_SECONDS,
    OUTBOX,
    OWN_SECONDS,
    OutboxEntry,
    Push,
    Step,
    after_answer,
    after_end,
    claim,
    new_entry,
    outbox_key,
)
from sigil.device import Device
from sigil.protocol.errors import InvalidSignature
from tests.support.services import CALLER, START, PushServices, Services

DEVICE = Device.from_secret("ES256", b"\x07" * 32)
NOW = 1_000_000.5
NAME = b"n" * 16
KEY = outbox_key(NAME)
EXPIRES = int(NOW) + 300
OWNER = bytes(8)
TOKEN, ANOTHER_TOKEN = b"token 01", b"token 02"
CHALLENGE = Challenge(b"k", b"o", b"n", b"a", int(NOW * 1000), 300, push=Push.QUEUED)

ANSWERED = msgspec.structs.replace(CHALLENGE, end=End(State.VERIFIED, int(NOW)))


def claimed(entry: OutboxEntry | None, at: float = NOW, token: bytes = TOKEN) -> OutboxEntry | None:
    """The entry as claimed at that time, None when the claim is not permitted."""
    claims = claim(at, [KEY], [entry], token).result
    return claims[0][1] if claims else None


def completed(
    result: DeliveryResult,
    entry: OutboxEntry,
    *,
    held: OutboxEntry | None = None,
    challenge: Challenge | None = CHALLENGE,
    at: float = NOW,
) -> tuple[OutboxEntry | None, Push | None]:
    """The entry and the push state after the completion."""
    claims = [(NAME, held or entry)]
    decision = complete(at, claims, [result], [entry, challenge], 0.5)
    after = dict(decision.writes)
    subject = after.get(rows_of(claims)[1], challenge)
    return cast(Any, after.get(KEY, entry)), subject.push if subject else None


def held() -> OutboxEntry:
    entry = claimed(new_entry(NOW, EXPIRES, OWNER))
    assert entry is not None
    return entry


def test_a_new_entry_is_claimed_at_once_by_its_writer_and_later_by_any_worker() -> None:
    entry = new_entry(NOW, EXPIRES, OWNER)
    assert claimed(entry) == OutboxEntry(Step.PUSH, int(NOW) + LEASE_SECONDS, EXPIRES, 1, TOKEN)
    assert entry.due == int(NOW) + OWN_SECONDS


def test_a_claim_excludes_others_until_its_lease_ends() -> None:
    entry = held()
    assert claimed(entry, NOW + LEASE_SECONDS - 1, ANOTHER_TOKEN) is None
    again = claimed(entry, NOW + LEASE_SECONDS, ANOTHER_TOKEN)
    assert again is not None
    assert (again.token, again.claims) == (ANOTHER_TOKEN, 2)


def test_a_completion_with_a_stale_token_changes_nothing() -> None:
    taken_over = claimed(held(), NOW + LEASE_SECONDS, ANOTHER_TOKEN)
    for entry in (taken_over, None, new_entry(NOW, EXPIRES, OWNER)):
        decision = complete(NOW, [(NAME, held())], ["delivered"], [entry, CHALLENGE], 0.5)
        assert (decision.writes, decision.result) == ((), [])


@pytest.mark.parametrize("result", ["delivered", "not_registered", "token_evicted", "failed"])
def test_a_final_result_deletes_the_entry_and_is_the_status_of_the_push(result: DeliveryResult) -> None:
    after, push = completed(result, held())
    assert after is None
    assert push is not None
    assert (push.error or push.status) == result


def test_a_queued_push_is_polled_for_a_minute() -> None:
    entry, at, waits = held(), NOW, []
    while True:
        after, push = completed("queued", entry, at=at)
        assert push is Push.QUEUED
        if after is None:
            break
        assert (after.step, after.token) == (Step.POLL_OUTCOME, b"")
        waits.append(after.due - at)
        at = float(after.due)
        entry = claimed(after, at) or entry
    for wait, wanted in zip(waits, POLL_SECONDS, strict=True):
        assert 0 < wait <= wanted + 1


def test_a_rate_limited_push_is_retried_with_growing_intervals_while_its_challenge_is_pending() -> None:
    entry, at, tries = held(), NOW, 0
    while True:
        after, push = completed("rate_limited", entry, at=at)
        assert push is Push.RATE_LIMITED
        if after is None:
            break
        assert after.step is Step.PUSH
        assert 4 <= after.due - at <= 37
        at, tries = float(after.due), tries + 1
        entry = claimed(after, at) or entry
    assert at > EXPIRES - 40
    assert tries > 8


def test_an_outage_keeps_the_entry_and_sets_the_push_state_until_the_push_is_delivered() -> None:
    after, push = completed("relay_unreachable", held())
    assert after is not None
    assert (after.step, after.token, push) == (Step.PUSH, b"", Push.RELAY_UNREACHABLE)
    again = claimed(after, after.due, ANOTHER_TOKEN)
    assert again is not None
    assert completed("delivered", again) == (None, Push.DELIVERED)


def test_a_poll_that_does_not_reach_the_relay_leaves_the_push_queued() -> None:
    polling, _ = completed("queued", held())
    assert polling is not None
    again = claimed(polling, polling.due)
    assert again is not None
    after, push = completed("relay_unreachable", again)
    assert after is not None
    assert (after.step, push) == (Step.POLL_OUTCOME, Push.QUEUED)


def test_a_push_that_the_relay_does_not_remember_is_sent_again() -> None:
    polling, _ = completed("queued", held())
    assert polling is not None
    again = claimed(polling, polling.due)
    assert again is not None
    after, push = completed("unknown", again)
    assert after is not None
    assert (after.step, push) == (Step.PUSH, Push.QUEUED)


@pytest.mark.parametrize("result", ["queued", "failed", "rate_limited", "relay_unreachable"])
def test_the_push_state_delivered_is_final(result: DeliveryResult) -> None:
    delivered = Challenge(b"k", b"o", b"n", b"a", int(NOW * 1000), 300, push=Push.DELIVERED)
    assert completed(result, held(), challenge=delivered)[1] is Push.DELIVERED


def test_a_response_deletes_a_free_entry_and_leaves_a_claimed_one_to_its_holder() -> None:
    assert after_answer(NOW, None) is None
    assert after_answer(NOW, new_entry(NOW, EXPIRES, OWNER)) is None
    entry = held()
    assert after_answer(NOW, entry) is entry
    assert completed("delivered", entry, challenge=ANSWERED) == (None, Push.DELIVERED)
    assert completed("ended", entry, challenge=ANSWERED) == (None, Push.QUEUED)


def test_a_push_that_still_waits_after_the_answer_is_cleared_and_a_delivered_one_is_not() -> None:
    """The device answered from its list of what is pending: the push would prompt it again."""
    queued, _ = completed("queued", held())
    assert queued is not None
    polling = after_answer(NOW, queued)
    assert polling is not None
    assert (polling.step, polling.due) == (Step.POLL_ANSWERED, int(NOW) + 1)
    again = claimed(polling, NOW + 1)
    assert again is not None
    assert completed("delivered", again, challenge=ANSWERED, at=NOW + 1) == (None, Push.DELIVERED)
    assert completed("unknown", again, challenge=ANSWERED, at=NOW + 1) == (None, Push.QUEUED)
    clear, push = completed("queued", again, challenge=ANSWERED, at=NOW + 1)
    assert clear is not None
    assert (clear.step, push) == (Step.CLEAR, Push.CLEARED)
    assert (push.status, push.error) == ("failed", "cleared")
    sent = claimed(clear, NOW + 2)
    assert sent is not None
    cleared = msgspec.structs.replace(ANSWERED, push=Push.CLEARED)
    assert completed("delivered", sent, challenge=cleared, at=NOW + 2) == (None, Push.CLEARED)


@pytest.mark.parametrize("result", ["queued", "relay_unreachable"])
def test_a_push_in_flight_at_the_answer_is_polled_unless_the_relay_did_not_take_it(result: DeliveryResult) -> None:
    polling, _ = completed(result, held(), challenge=ANSWERED)
    assert polling is not None
    assert polling.step is Step.POLL_ANSWERED
    assert completed("rate_limited", held(), challenge=ANSWERED)[0] is None


def test_a_poll_after_the_answer_is_repeated_in_an_outage_and_ends() -> None:
    queued, _ = completed("queued", held())
    polling = after_answer(NOW, queued)
    assert polling is not None
    at, polls = NOW, 0
    while polling is not None:
        at = max(at, float(polling.due))
        again = claimed(polling, at)
        if again is None:
            assert claim(at, [KEY], [polling], TOKEN).writes == ((KEY, None),)
            break
        polls += 1
        polling, push = completed("relay_unreachable", again, challenge=ANSWERED, at=at)
        assert push is Push.QUEUED
    assert 100 < polls <= CLEAR_SECONDS


def test_an_end_deletes_an_unclaimed_push_and_clears_one_that_may_be_shown() -> None:
    assert after_end(NOW, None, Push.DISABLED, OWNER) is None
    assert after_end(NOW, new_entry(NOW, EXPIRES, OWNER), Push.QUEUED, OWNER) is None
    for push in (Push.NOT_REGISTERED, Push.TOKEN_EVICTED, Push.RATE_LIMITED):
        assert after_end(NOW, None, push, OWNER) is None
    for push in (Push.QUEUED, Push.DELIVERED, Push.FAILED, Push.RELAY_UNREACHABLE):
        clear = after_end(NOW, None, push, OWNER)
        assert clear == OutboxEntry(Step.CLEAR, int(NOW) + OWN_SECONDS, int(NOW) + CLEAR_SECONDS)


def test_a_clear_does_not_overtake_a_push_in_flight() -> None:
    entry = held()
    waiting = after_end(NOW + 1, entry, Push.QUEUED, OWNER)
    assert waiting is not None
    assert claimed(waiting, NOW + 2, ANOTHER_TOKEN) is None
    ready, _ = completed("delivered", waiting, held=entry, at=NOW + 3)
    assert ready is not None
    assert (ready.step, ready.due, ready.token) == (Step.CLEAR, int(NOW) + 3, b"")
    assert completed("not_registered", waiting, held=entry)[0] is None
    # The holder is dead: the clear is sent when the lease ends.
    late = claimed(waiting, NOW + LEASE_SECONDS, ANOTHER_TOKEN)
    assert late is not None
    assert late.step is Step.CLEAR


def test_a_clear_is_sent_for_a_push_that_an_earlier_holder_may_have_sent() -> None:
    first = held()
    second = claimed(first, NOW + LEASE_SECONDS, ANOTHER_TOKEN)
    assert second is not None
    for entry, cleared in ((first, False), (second, True)):
        waiting = after_end(NOW + LEASE_SECONDS, entry, Push.QUEUED, OWNER)
        assert waiting is not None
        assert (completed("ended", waiting, held=entry)[0] is not None) is cleared


def test_a_rate_limited_push_is_cleared_only_if_a_later_holder_may_have_sent_it() -> None:
    limited, push = completed("rate_limited", held())
    assert limited is not None
    assert push is Push.RATE_LIMITED
    assert after_end(EXPIRES, limited, push, OWNER) is None
    died = claimed(limited, float(limited.due), ANOTHER_TOKEN)
    assert died is not None
    ((_, left),) = claim(EXPIRES, [KEY], [died], TOKEN).writes
    cleared = after_end(EXPIRES, left, push, OWNER)
    assert cleared is not None
    assert cleared.step is Step.CLEAR


def test_a_clear_is_retried_while_the_relay_is_unreachable_and_then_deleted() -> None:
    clear = claimed(after_end(NOW, None, Push.DELIVERED, OWNER))
    assert clear is not None
    again, _ = completed("relay_unreachable", clear)
    assert again is not None
    assert again.step is Step.CLEAR
    decision = claim(NOW + CLEAR_SECONDS, [KEY], [again], TOKEN)
    assert (decision.result, decision.writes) == ([], ((KEY, None),))


def test_a_push_of_an_expired_challenge_waits_for_the_expiry_sweep_and_delays_no_other() -> None:
    decision = claim(EXPIRES, [KEY], [new_entry(NOW, EXPIRES, OWNER)], TOKEN)
    ((_, left),) = decision.writes
    assert decision.result == []
    assert left is not None
    assert (left.due > EXPIRES, left.claims) == (True, 0)


# The same through the services.


async def test_a_challenge_is_pushed_once_and_its_status_reports_that() -> None:
    services = PushServices()
    created = await services.create_challenge(DEVICE)
    assert await services.push_status(created) == ("queued", None)
    await services.send_due_pushes()
    await services.send_due_pushes()
    assert services.relay.keys() == [f"{created.challenge_id}:challenge"]
    assert await services.push_status(created) == ("delivered", None)
    assert services.store.count(OUTBOX) == 0


async def test_without_push_no_entry_is_written() -> None:
    services = Services()
    created = await services.create_challenge(DEVICE)
    assert services.store.count(OUTBOX) == 0
    assert (await services.challenges.status(CALLER, created.challenge_id)).push.status == "disabled"


async def test_an_idempotent_repeat_is_not_pushed_again() -> None:
    services = PushServices()
    await services.create_challenge(DEVICE, key="once")
    await services.create_challenge(DEVICE, key="once")
    await services.send_due_pushes()
    assert len(services.relay.pushes) == 1


async def test_a_challenge_that_ends_before_its_push_is_sent_is_not_pushed() -> None:
    services = PushServices()
    await services.approve(DEVICE, await services.create_challenge(DEVICE))
    await services.reject(DEVICE, await services.create_challenge(DEVICE))
    await services.challenges.cancel(CALLER, (await services.create_challenge(DEVICE)).challenge_id)
    assert services.store.count(OUTBOX) == 0
    await services.send_due_pushes()
    assert services.relay.pushes == []


@pytest.mark.parametrize("how", ["cancelled", "expired", "wrong_code"])
async def test_an_end_without_a_response_of_the_device_clears_its_notification(how: str) -> None:
    services = PushServices()
    created = await services.create_challenge(DEVICE, seconds=30, matching=True)
    await services.send_due_pushes()
    if how == "cancelled":
        await services.challenges.cancel(CALLER, created.challenge_id)
    elif how == "wrong_code":
        assert created.match_code is not None
        for _ in range(3):
            with pytest.raises(InvalidSignature):
                await services.approve(DEVICE, created, f"{(int(created.match_code) + 1) % 100:02d}")
    else:
        services.clock.now += 31
        await services.sweep()
    await services.send_due_pushes()
    status = "rejected" if how == "wrong_code" else how
    clear = services.relay.pushes[-1]
    assert services.relay.keys() == [f"{created.challenge_id}:challenge", f"{created.challenge_id}:clear"]
    assert (
        bytes(clear.payload)
        == f'{{"type":"clear","challenge_id":"{created.challenge_id}","status":"{status}"}}'.encode()
    )
    assert services.store.count(OUTBOX) == 0


async def claim_and_die(services: PushServices) -> None:
    """A worker claims all entries and dies before it sends anything."""
    assert await services.pushes.claim(services.worker_backlog.take(100))


async def the_push_is_found_unknown(services: PushServices, seconds: float) -> None:
    """The dead worker may have sent it: the next one does not send it again, and polls its outcome."""
    services.clock.now += seconds
    await services.send_due_pushes()
    services.clock.now += 2
    await services.send_due_pushes()
    assert services.store.count(OUTBOX) == 0


async def test_the_claim_of_a_dead_worker_does_not_outlive_the_expiry_of_an_answered_challenge() -> None:
    services = PushServices()
    created = await services.create_challenge(DEVICE, seconds=30)
    await claim_and_die(services)
    await services.approve(DEVICE, created)
    await the_push_is_found_unknown(services, LEASE_SECONDS + 1)
    assert services.relay.pushes == []


async def test_the_claim_of_a_dead_worker_does_not_outlive_the_expiry_of_an_approval_request() -> None:
    services = PushServices()
    created = await services.create_approval([[DEVICE]], 1, seconds=60)
    await claim_and_die(services)
    await services.vote(DEVICE, created)
    await the_push_is_found_unknown(services, 61)
    assert services.relay.pushes == []


async def test_the_claim_of_a_dead_worker_leaves_an_expired_challenge_to_the_expiry_sweep() -> None:
    """The worker may have sent the push before it died, so the expiry sweep clears it."""
    services = PushServices()
    created = await services.create_challenge(DEVICE, seconds=30)
    await claim_and_die(services)
    services.clock.now += LEASE_SECONDS + 1
    await services.send_due_pushes()
    assert services.store.count(OUTBOX) == 1
    await services.sweep()
    services.clock.now += LEASE_SECONDS
    await services.send_due_pushes()
    assert services.relay.keys() == [f"{created.challenge_id}:clear"]
    assert services.store.count(OUTBOX) == 0


async def test_a_response_of_the_device_clears_nothing() -> None:
    services = PushServices()
    challenges = [await services.create_challenge(DEVICE) for _ in range(2)]
    await services.send_due_pushes()
    await services.approve(DEVICE, challenges[0])
    await services.reject(DEVICE, challenges[1])
    await services.send_due_pushes()
    assert len(services.relay.pushes) == 2


async def test_a_push_of_a_worker_that_died_is_sent_by_another_under_the_same_key() -> None:
    services = PushServices()
    created = await services.create_challenge(DEVICE)
    await services.pushes.claim(services.worker_backlog.take(9))
    services.clock.now += LEASE_SECONDS - 1
    await services.send_due_pushes()
    assert services.relay.pushes == []
    services.clock.now += 1
    await services.send_due_pushes()
    assert await services.push_status(created) == ("delivered", None)


async def test_a_later_outcome_updates_the_status() -> None:
    services = PushServices()
    services.relay.status = "queued"
    created = await services.create_challenge(DEVICE)
    await services.send_due_pushes()
    assert await services.push_status(created) == ("queued", None)
    (known,) = services.relay.results.items()
    services.relay.results[known[0]] = type(known[1])(known[1].fingerprint, "delivered")
    services.clock.now += 3
    await services.send_due_pushes()
    assert services.relay.polled_keys == [f"{created.challenge_id}:challenge"]
    assert await services.push_status(created) == ("delivered", None)


async def test_no_push_is_lost_while_the_relay_is_unreachable_and_the_outage_is_reported_once() -> None:
    services = PushServices(ChallengePolicy(limits=Limits(max_pending=50, per_minute=0)))
    services.relay.unreachable = True
    first = await services.create_challenge(DEVICE)
    await services.send_due_pushes()
    assert services.observer.reports == ["opened unreachable"]
    challenges = [first, *[await services.create_challenge(DEVICE) for _ in range(9)]]
    assert {await services.push_status(created) for created in challenges} == {("failed", "relay_unreachable")}
    # The entries wait in the store: names in the backlog would keep the loop awake.
    assert len(services.worker_backlog) == 0
    services.relay.unreachable = False
    services.clock.now += 3
    await services.another_worker().register(probing=True)
    assert services.observer.reports == ["opened unreachable", "closed 3.0"]
    await services.send_due_pushes()
    assert sorted(services.relay.keys()) == sorted(f"{created.challenge_id}:challenge" for created in challenges)
    assert {await services.push_status(created) for created in challenges} == {("delivered", None)}


async def test_one_push_that_the_relay_rejects_delays_no_other() -> None:
    services = PushServices(ChallengePolicy(limits=Limits(max_pending=50, per_minute=0)))
    challenges = [await services.create_challenge(DEVICE) for _ in range(11)]
    services.relay.rejected_keys = {f"{challenges[4].challenge_id}:challenge"}
    await services.send_due_pushes()
    states = [await services.push_status(created) for created in challenges]
    assert states == [("delivered", None)] * 4 + [("failed", "failed")] + [("delivered", None)] * 6
    assert services.observer.reports == ["rejected 400"]


async def test_a_full_payload_has_the_signed_challenge_and_a_reference_only_its_id() -> None:
    full, reference = PushServices(), PushServices(content="reference")
    for services in (full, reference):
        created = await services.create_challenge(DEVICE, matching=True)
        await services.send_due_pushes()
        (push,) = services.relay.pushes
        payload = bytes(push.payload).decode()
        assert created.match_code is not None
        assert "match_code" not in payload
        assert (push.collapse_id, push.priority, push.expires_at) == (created.challenge_id, "high", created.expires_at)
        assert (f'"server_signature":"{created.server_signature}"' in payload) == (services is full)
        if services is reference:
            assert payload.startswith(f'{{"type":"challenge","challenge_id":"{created.challenge_id}","server_id":"')
            assert payload.count(":") == 3


async def test_the_expiry_sweep_deletes_every_entry_of_a_pushed_challenge() -> None:
    services = PushServices()
    for status in ("delivered", "queued", "rate_limited", "failed"):
        services.relay.status = status
        await services.create_challenge(DEVICE)
        await services.send_due_pushes()
    services.relay.unreachable = True
    await services.create_challenge(DEVICE)
    await services.send_due_pushes()
    services.clock.now = START + 5000
    await services.sweep()
    assert services.store.count(OUTBOX) == 0
