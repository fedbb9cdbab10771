"""The service of webhooks over the memory store: what is told, when again, and what when nobody listens."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sigil.core.challenge import CHALLENGE
from sigil.core.session_store import Decision
from sigil.core.webhook_delivery import FAILURE, KEPT_SECONDS, AttemptResult, failure_key
from sigil.core.webhook_event import EVENT, LEASE_SECONDS
from sigil.delivery.circuit_breaker import RECEIVER_FAILURES_TO_OPEN
from sigil.device import Device
from sigil.protocol.api_key import Caller
from sigil.protocol.errors import Overloaded
from sigil.protocol.webhook_event import event_id
from sigil.webhooks.service import ATTEMPT_SECONDS
from tests.support.services import CALLER
from tests.webhooks.webhook_desk import SCHEDULE, HostWorker, WebhookDesk


@pytest.fixture
def desk() -> WebhookDesk:
    return WebhookDesk()


async def ended(desk: WebhookDesk, count: int = 1) -> list[str]:
    """Ids of the events of challenges that were approved."""
    ids = []
    for _ in range(count):
        device = Device.generate("Ed25519")
        created = await desk.create_challenge(device)
        await desk.approve(device, created)
        ids.append(f"evt_{created.challenge_id}")
    return ids


async def told(desk: WebhookDesk) -> dict[str, Any]:
    await desk.worker.deliver()
    ((_, body),) = desk.receiver.got
    event: dict[str, Any] = json.loads(body)
    return event


class TestBodies:
    async def test_an_approval(self, desk: WebhookDesk) -> None:
        device = Device.generate()
        created = await desk.create_challenge(device)
        await desk.approve(device, created)
        assert await told(desk) == {
            "id": f"evt_{created.challenge_id}",
            "type": "challenge.verified",
            "status": "verified",
            "decision": "approved",
            "timestamp": "2026-04-24T10:32:15Z",
            "key_id": CALLER.key_id,
            "action_type": "login",
            "challenge_id": created.challenge_id,
            "fingerprint": device.fingerprint,
        }

    async def test_a_rejection_with_its_reason(self, desk: WebhookDesk) -> None:
        device = Device.generate()
        await desk.reject(device, await desk.create_challenge(device), "cancelled")
        event = await told(desk)
        assert (event["type"], event["decision"], event["reason"]) == ("challenge.rejected", "rejected", "cancelled")

    async def test_an_expiry_has_no_decision(self, desk: WebhookDesk) -> None:
        await desk.create_challenge(Device.generate(), seconds=30)
        desk.clock.now += 31
        await desk.sweep()
        event = await told(desk)
        assert (event["type"], event["status"]) == ("challenge.expired", "expired")
        assert "decision" not in event
        assert event["timestamp"] == "2026-04-24T10:32:45Z"

    async def test_a_cancellation_is_not_told(self, desk: WebhookDesk) -> None:
        created = await desk.create_challenge(Device.generate())
        await desk.challenges.cancel(CALLER, created.challenge_id)
        assert desk.events_stored == 0

    @pytest.mark.parametrize(
        ("decision", "status", "groups"), [("approved", "approved", [1]), ("rejected", "rejected", [])]
    )
    async def test_a_multi_party_request(
        self, desk: WebhookDesk, decision: Any, status: str, groups: list[int]
    ) -> None:
        device = Device.generate()
        asked = await desk.create_approval([[Device.generate()], [device]], 1, name="order-7", policy="reject_on_first")
        await desk.vote(device, asked, decision)
        assert await told(desk) == {
            "id": f"evt_{asked.mpa_id}",
            "type": f"mpa.{status}",
            "status": status,
            "decision": decision,
            "timestamp": "2026-04-24T10:32:15Z",
            "key_id": CALLER.key_id,
            "action_type": "login",
            "request_id": "order-7",
            "mpa_id": asked.mpa_id,
            "groups_satisfied": groups,
        }

    @pytest.mark.parametrize("late", [0, 90_000])
    async def test_a_request_that_timed_out_however_late_that_is_found(self, desk: WebhookDesk, late: int) -> None:
        device = Device.generate()
        asked = await desk.create_approval([[device], [Device.generate()]], 2, seconds=60)
        await desk.vote(device, asked)
        desk.clock.now += 61 + late
        await desk.sweep()
        event = await told(desk)
        assert (event["type"], event["status"], event["groups_satisfied"]) == ("mpa.timeout", "timeout", [0])
        assert "decision" not in event
        assert event["timestamp"] == "2026-04-24T10:33:15Z"

    async def test_a_cancelled_request_is_not_told(self, desk: WebhookDesk) -> None:
        asked = await desk.create_approval([[Device.generate()]], 1)
        await desk.approvals.cancel(CALLER, asked.request_id)
        assert desk.events_stored == 0

    async def test_a_vote_that_decides_nothing_is_not_told(self, desk: WebhookDesk) -> None:
        device = Device.generate()
        await desk.vote(device, await desk.create_approval([[device], [Device.generate()]], 2))
        assert desk.events_stored == 0

    async def test_key_ids_tell_owners_apart(self, desk: WebhookDesk) -> None:
        owner = Caller(bytes(range(16)))
        device = Device.generate()
        await desk.approve(device, await desk.create_challenge(device, owner))
        assert (await told(desk))["key_id"] == owner.key_id == "00010203"


class TestDelivery:
    async def test_what_is_delivered_is_not_told_again(self, desk: WebhookDesk) -> None:
        await ended(desk)
        await desk.worker.deliver()
        desk.clock.now += 5000
        await desk.worker.deliver()
        assert len(desk.receiver.got) == 1
        assert (desk.events_stored, desk.failures_stored) == (0, 0)

    async def test_every_try_has_the_same_body(self, desk: WebhookDesk) -> None:
        (event,) = await ended(desk)
        desk.receiver.result = AttemptResult(500)
        for wait in SCHEDULE:
            await desk.worker.deliver()
            # By then the challenge itself may be forgotten.
            desk.clock.now += 1.2 * wait + 601
            await desk.sweep()
        desk.receiver.result = AttemptResult(200)
        await desk.worker.deliver()
        assert desk.receiver.got == [desk.receiver.got[0]] * 4
        assert desk.receiver.ids()[0] == event
        assert [done.outcome for done in desk.observer.completions] == ["retry", "retry", "retry", "success"]

    async def test_after_the_schedule_it_is_kept_as_failed_and_told_of(self, desk: WebhookDesk) -> None:
        await ended(desk)
        desk.receiver.result = AttemptResult(0, "no connection")
        for _ in range(len(SCHEDULE) + 2):
            await desk.worker.deliver()
            desk.clock.now += 40
        assert len(desk.receiver.got) == len(SCHEDULE) + 1
        assert (desk.events_stored, desk.failures_stored) == (0, 1)
        assert desk.observer.completions[-1].outcome == "failure"

    async def test_a_worker_that_dies_leaves_its_events_to_others_after_the_lease(self, desk: WebhookDesk) -> None:
        (event,) = await ended(desk)
        names = desk.worker_backlog.take(10)
        assert await desk.worker.webhooks.claim(names)
        other = HostWorker(desk)
        desk.clock.now += LEASE_SECONDS - 1
        await other.deliver()
        assert desk.receiver.got == []
        desk.clock.now += 3
        await other.deliver()
        assert desk.receiver.ids() == [event]

    async def test_a_claim_that_is_nearly_over_is_not_used(self, desk: WebhookDesk) -> None:
        """The worker was stopped for a while: its attempt could still run when another begins."""
        await ended(desk)
        (claim,) = await desk.worker.webhooks.claim(desk.worker_backlog.take(10))
        desk.clock.now += LEASE_SECONDS - ATTEMPT_SECONDS + 2
        assert await desk.worker.webhooks.attempt(claim) is None
        assert desk.receiver.got == []

    async def test_who_completes_too_late_changes_nothing(self, desk: WebhookDesk) -> None:
        await ended(desk)
        (claim,) = await desk.worker.webhooks.claim(desk.worker_backlog.take(10))
        desk.receiver.result = AttemptResult(404)
        late = await desk.worker.webhooks.attempt(claim)
        desk.clock.now += LEASE_SECONDS + 2
        (again,) = await desk.worker.webhooks.claim([claim[0]])
        assert late is not None
        await desk.worker.webhooks.complete([late])
        assert (desk.events_stored, desk.failures_stored, desk.observer.completions) == (1, 0, [])
        desk.receiver.result = AttemptResult(200)
        attempt = await desk.worker.webhooks.attempt(again)
        assert attempt is not None
        await desk.worker.webhooks.complete([attempt])
        assert desk.events_stored == 0


class TestOutages:
    async def fail(self, desk: WebhookDesk, count: int = RECEIVER_FAILURES_TO_OPEN) -> list[str]:
        ids = await ended(desk, count)
        desk.receiver.result = AttemptResult(503)
        await desk.worker.deliver()
        return ids

    async def test_many_failures_in_a_row_are_an_outage_that_is_told_once(self, desk: WebhookDesk) -> None:
        await self.fail(desk, RECEIVER_FAILURES_TO_OPEN + 5)
        assert desk.observer.reports == ["opened 503"]

    async def test_fewer_are_none_and_an_answer_in_between_begins_the_count_anew(self, desk: WebhookDesk) -> None:
        await self.fail(desk, RECEIVER_FAILURES_TO_OPEN - 1)
        desk.receiver.result = AttemptResult(410)
        await ended(desk)
        await desk.worker.deliver()
        await self.fail(desk, RECEIVER_FAILURES_TO_OPEN - 1)
        assert desk.observer.reports == []

    async def test_while_it_lasts_nothing_is_sent_and_no_tries_are_used_up(self, desk: WebhookDesk) -> None:
        await self.fail(desk)
        sent = len(desk.receiver.got)
        later = await ended(desk, 3)
        desk.clock.now += 600
        await desk.worker.deliver()
        assert len(desk.receiver.got) == sent
        assert len(desk.worker_backlog) == 0
        probes = 0
        for _ in range(600):
            desk.clock.now += 1
            probes += await desk.worker.probe()
        assert 30 < probes < 60
        assert len(desk.receiver.got) == sent + probes
        assert (desk.events_stored, desk.failures_stored) == (RECEIVER_FAILURES_TO_OPEN + 3, 0)
        desk.receiver.result = AttemptResult(200)
        desk.clock.now += 20
        assert await desk.worker.probe()
        assert desk.observer.reports == ["opened 503", "closed"]
        await desk.worker.deliver()
        assert desk.events_stored == 0
        assert set(later) <= set(desk.receiver.ids())

    async def test_one_worker_at_a_time_probes(self, desk: WebhookDesk) -> None:
        await self.fail(desk)
        workers = [HostWorker(desk) for _ in range(4)]
        desk.clock.now += 5
        assert sum([await worker.probe() for worker in workers]) == 1

    async def test_events_that_the_receiver_chokes_on_do_not_keep_it_away(self, desk: WebhookDesk) -> None:
        ids = await self.fail(desk)
        desk.receiver.result, desk.receiver.fails_on = AttemptResult(200), set(ids[:5])
        for _ in range(200):
            desk.clock.now += 1
            await desk.worker.probe()
        assert desk.observer.reports == ["opened 503", "closed"]

    async def test_what_failed_before_a_recovery_that_another_saw_is_not_the_next_outage(
        self, desk: WebhookDesk
    ) -> None:
        await self.fail(desk)
        other = HostWorker(desk)
        desk.receiver.result = AttemptResult(200)
        desk.clock.now += 5
        assert await other.probe()
        desk.receiver.result = AttemptResult(503)
        desk.clock.now += 1
        await desk.worker.deliver(limit=1)
        assert desk.observer.reports == ["opened 503", "closed"]

    async def test_a_new_start_of_the_server_tries_at_once(self, desk: WebhookDesk) -> None:
        await self.fail(desk)
        desk.receiver.result = AttemptResult(200)
        desk.clock.now += 2
        await HostWorker(desk, run=2).deliver()
        assert desk.events_stored == 0


class TestRoom:
    async def test_with_the_quota_used_up_creation_is_refused_and_answering_goes_on(self) -> None:
        desk = WebhookDesk(size=1 << 20, bytes_per_event=(1 << 20) // 5)
        desk.receiver.result = AttemptResult(503)
        waiting = Device.generate()
        created = await desk.create_challenge(waiting)
        await ended(desk, 5)
        desk.clock.now += 1
        with pytest.raises(Overloaded) as refused:
            await desk.create_challenge(Device.generate())
        assert refused.value.retry_after == 5
        await desk.approve(waiting, created)
        assert desk.events_stored == 6
        desk.receiver.result = AttemptResult(200)
        desk.clock.now += 3
        await desk.worker.deliver()
        desk.clock.now += 1
        assert await desk.create_challenge(Device.generate())

    async def test_what_pends_has_its_room_kept_since_it_will_be_an_event(self) -> None:
        desk = WebhookDesk(size=1 << 20, bytes_per_end=(1 << 20) // 5)
        for _ in range(5):
            await desk.create_challenge(Device.generate("Ed25519"))
        desk.clock.now += 1
        with pytest.raises(Overloaded):
            await desk.create_challenge(Device.generate())
        assert (desk.store.count(CHALLENGE), desk.store.count(EVENT)) == (5, 0)

    async def test_a_first_answer_is_repeated_without_room(self) -> None:
        desk = WebhookDesk(size=1 << 20, bytes_per_end=1 << 20)
        device = Device.generate()
        created = await desk.create_challenge(device, key="order-7")
        desk.clock.now += 1
        assert await desk.create_challenge(device, key="order-7") == created
        with pytest.raises(Overloaded):
            await desk.create_challenge(device, key="order-8")


class TestFailures:
    async def test_they_are_forgotten_after_a_while(self, desk: WebhookDesk) -> None:
        desk.receiver.result = AttemptResult(400)
        await ended(desk)
        await desk.worker.deliver()
        await desk.worker.webhooks.forget()
        assert desk.failures_stored == 1
        desk.clock.now += KEPT_SECONDS + 1
        await desk.worker.webhooks.forget()
        assert desk.failures_stored == 0

    async def test_the_oldest_are_deleted_when_there_are_too_many(self, desk: WebhookDesk) -> None:
        desk.worker = HostWorker(desk, backlog=desk.worker_backlog, max_failures=3)
        desk.receiver.result = AttemptResult(400)
        for _ in range(5):
            await ended(desk)
            await desk.worker.deliver()
            desk.clock.now += 10
        await desk.worker.webhooks.forget()
        kept = [key.name for key in await desk.store.due(1 << 32, 10, FAILURE)]
        assert [event_id(name) for name in kept] == desk.receiver.ids()[2:]
        assert await desk.store.get(failure_key(kept[0])) is not None

    async def test_one_look_is_enough_however_many_there_are(self) -> None:
        """A receiver that refuses everything for a while would else fill the store."""
        desk = WebhookDesk(size=64 << 20)
        await give_up(desk, 10_000 + 1_234)
        await desk.worker.webhooks.forget()
        assert desk.failures_stored == 10_000
        desk.clock.now += KEPT_SECONDS + 1
        await desk.worker.webhooks.forget()
        assert desk.failures_stored == 0


async def give_up(desk: WebhookDesk, count: int) -> None:
    """One event, and copies of it under other names, written in batches as completions are."""
    desk.receiver.result = AttemptResult(400)
    await ended(desk)
    await desk.worker.deliver()
    (one,) = await desk.store.due(1 << 32, 1, FAILURE)
    failure = await desk.store.get(one)
    names = [number.to_bytes(16) for number in range(1, count)]
    for batch in (names[start : start + 100] for start in range(0, len(names), 100)):
        writes = tuple((failure_key(name), failure) for name in batch)
        await desk.store.transact([], lambda _now, _rows, writes=writes: Decision(None, writes))
