"""The service of webhooks over the memory store: bodies, retries, outages, capacity and final failures."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sigil.core.challenge import CHALLENGE
from sigil.core.session_store import Decision
from sigil.core.webhooks.delivery import FAILURE, KEPT_SECONDS, AttemptResult, failure_key
from sigil.core.webhooks.event import EVENT, LEASE_SECONDS
from sigil.delivery.circuit_breaker import RECEIVER_FAILURES_TO_OPEN
from sigil.device import Device
from sigil.protocol.api_key import Caller
from sigil.protocol.errors import Overloaded
from sigil.protocol.messages.webhooks import event_id
from sigil.webhooks.service import ATTEMPT_SECONDS
from tests.support.services import CALLER
from tests.webhooks.webhook_services import SCHEDULE, HostWorker, WebhookServices


@pytest.fixture
def services() -> WebhookServices:
    return WebhookServices()


async def ended(services: WebhookServices, count: int = 1) -> list[str]:
    """Ids of the events of challenges that were approved."""
    ids = []
    for _ in range(count):
        device = Device.generate("Ed25519")
        created = await services.create_challenge(device)
        await services.approve(device, created)
        ids.append(f"evt_{created.challenge_id}")
    return ids


async def delivered_event(services: WebhookServices) -> dict[str, Any]:
    await services.worker.deliver()
    ((_, body),) = services.receiver.got
    event: dict[str, Any] = json.loads(body)
    return event


class TestBodies:
    async def test_an_approval(self, services: WebhookServices) -> None:
        device = Device.generate()
        created = await services.create_challenge(device)
        await services.approve(device, created)
        assert await delivered_event(services) == {
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

    async def test_a_rejection_with_its_reason(self, services: WebhookServices) -> None:
        device = Device.generate()
        await services.reject(device, await services.create_challenge(device), "cancelled")
        event = await delivered_event(services)
        assert (event["type"], event["decision"], event["reason"]) == ("challenge.rejected", "rejected", "cancelled")

    async def test_an_expiry_has_no_decision(self, services: WebhookServices) -> None:
        await services.create_challenge(Device.generate(), seconds=30)
        services.clock.now += 31
        await services.sweep()
        event = await delivered_event(services)
        assert (event["type"], event["status"]) == ("challenge.expired", "expired")
        assert "decision" not in event
        assert event["timestamp"] == "2026-04-24T10:32:45Z"

    async def test_a_cancellation_has_no_event(self, services: WebhookServices) -> None:
        created = await services.create_challenge(Device.generate())
        await services.challenges.cancel(CALLER, created.challenge_id)
        assert services.events_stored == 0

    @pytest.mark.parametrize(
        ("decision", "status", "groups"), [("approved", "approved", [1]), ("rejected", "rejected", [])]
    )
    async def test_an_approval_request(
        self, services: WebhookServices, decision: Any, status: str, groups: list[int]
    ) -> None:
        device = Device.generate()
        created = await services.create_approval(
            [[Device.generate()], [device]], 1, name="order-7", policy="reject_on_first"
        )
        await services.vote(device, created, decision)
        assert await delivered_event(services) == {
            "id": f"evt_{created.mpa_id}",
            "type": f"mpa.{status}",
            "status": status,
            "decision": decision,
            "timestamp": "2026-04-24T10:32:15Z",
            "key_id": CALLER.key_id,
            "action_type": "login",
            "request_id": "order-7",
            "mpa_id": created.mpa_id,
            "groups_satisfied": groups,
        }

    @pytest.mark.parametrize("late", [0, 90_000])
    async def test_a_request_that_timed_out_even_if_the_sweep_is_late(
        self, services: WebhookServices, late: int
    ) -> None:
        device = Device.generate()
        created = await services.create_approval([[device], [Device.generate()]], 2, seconds=60)
        await services.vote(device, created)
        services.clock.now += 61 + late
        await services.sweep()
        event = await delivered_event(services)
        assert (event["type"], event["status"], event["groups_satisfied"]) == ("mpa.timeout", "timeout", [0])
        assert "decision" not in event
        assert event["timestamp"] == "2026-04-24T10:33:15Z"

    async def test_a_cancelled_request_has_no_event(self, services: WebhookServices) -> None:
        created = await services.create_approval([[Device.generate()]], 1)
        await services.approvals.cancel(CALLER, created.request_id)
        assert services.events_stored == 0

    async def test_a_vote_that_decides_nothing_has_no_event(self, services: WebhookServices) -> None:
        device = Device.generate()
        await services.vote(device, await services.create_approval([[device], [Device.generate()]], 2))
        assert services.events_stored == 0

    async def test_key_ids_distinguish_owners(self, services: WebhookServices) -> None:
        owner = Caller(bytes(range(16)))
        device = Device.generate()
        await services.approve(device, await services.create_challenge(device, owner))
        assert (await delivered_event(services))["key_id"] == owner.key_id == "00010203"


class TestDelivery:
    async def test_a_delivered_event_is_not_sent_again(self, services: WebhookServices) -> None:
        await ended(services)
        await services.worker.deliver()
        services.clock.now += 5000
        await services.worker.deliver()
        assert len(services.receiver.got) == 1
        assert (services.events_stored, services.failures_stored) == (0, 0)

    async def test_every_attempt_has_the_same_body(self, services: WebhookServices) -> None:
        (event,) = await ended(services)
        services.receiver.result = AttemptResult(500)
        for wait in SCHEDULE:
            await services.worker.deliver()
            # By then the challenge itself may be deleted.
            services.clock.now += 1.2 * wait + 601
            await services.sweep()
        services.receiver.result = AttemptResult(200)
        await services.worker.deliver()
        assert services.receiver.got == [services.receiver.got[0]] * 4
        assert services.receiver.ids()[0] == event
        assert [done.outcome for done in services.observer.completions] == ["retry", "retry", "retry", "success"]

    async def test_after_the_schedule_the_event_is_kept_as_failed_and_reported(self, services: WebhookServices) -> None:
        await ended(services)
        services.receiver.result = AttemptResult(0, "no connection")
        for _ in range(len(SCHEDULE) + 2):
            await services.worker.deliver()
            services.clock.now += 40
        assert len(services.receiver.got) == len(SCHEDULE) + 1
        assert (services.events_stored, services.failures_stored) == (0, 1)
        assert services.observer.completions[-1].outcome == "failure"

    async def test_events_of_a_worker_that_died_are_delivered_by_others_after_the_lease(
        self, services: WebhookServices
    ) -> None:
        (event,) = await ended(services)
        names = services.worker_backlog.take(10)
        assert await services.worker.webhooks.claim(names)
        other = HostWorker(services)
        services.clock.now += LEASE_SECONDS - 1
        await other.deliver()
        assert services.receiver.got == []
        services.clock.now += 3
        await other.deliver()
        assert services.receiver.ids() == [event]

    async def test_a_claim_whose_lease_ends_soon_is_not_used(self, services: WebhookServices) -> None:
        """The worker was suspended for a while: its attempt could still run when another begins."""
        await ended(services)
        (claim,) = await services.worker.webhooks.claim(services.worker_backlog.take(10))
        services.clock.now += LEASE_SECONDS - ATTEMPT_SECONDS + 2
        assert await services.worker.webhooks.attempt(claim) is None
        assert services.receiver.got == []

    async def test_a_late_completion_changes_nothing(self, services: WebhookServices) -> None:
        await ended(services)
        (claim,) = await services.worker.webhooks.claim(services.worker_backlog.take(10))
        services.receiver.result = AttemptResult(404)
        late = await services.worker.webhooks.attempt(claim)
        services.clock.now += LEASE_SECONDS + 2
        (again,) = await services.worker.webhooks.claim([claim[0]])
        assert late is not None
        await services.worker.webhooks.complete([late])
        assert (services.events_stored, services.failures_stored, services.observer.completions) == (1, 0, [])
        services.receiver.result = AttemptResult(200)
        attempt = await services.worker.webhooks.attempt(again)
        assert attempt is not None
        await services.worker.webhooks.complete([attempt])
        assert services.events_stored == 0


class TestOutages:
    async def fail(self, services: WebhookServices, count: int = RECEIVER_FAILURES_TO_OPEN) -> list[str]:
        ids = await ended(services, count)
        services.receiver.result = AttemptResult(503)
        await services.worker.deliver()
        return ids

    async def test_many_failures_in_a_row_are_an_outage_that_is_reported_once(self, services: WebhookServices) -> None:
        await self.fail(services, RECEIVER_FAILURES_TO_OPEN + 5)
        assert services.observer.reports == ["opened 503"]

    async def test_fewer_are_none_and_a_response_in_between_restarts_the_count(self, services: WebhookServices) -> None:
        await self.fail(services, RECEIVER_FAILURES_TO_OPEN - 1)
        services.receiver.result = AttemptResult(410)
        await ended(services)
        await services.worker.deliver()
        await self.fail(services, RECEIVER_FAILURES_TO_OPEN - 1)
        assert services.observer.reports == []

    async def test_during_an_outage_nothing_is_sent_and_no_tries_are_used_up(self, services: WebhookServices) -> None:
        await self.fail(services)
        sent = len(services.receiver.got)
        later = await ended(services, 3)
        services.clock.now += 600
        await services.worker.deliver()
        assert len(services.receiver.got) == sent
        assert len(services.worker_backlog) == 0
        probes = 0
        for _ in range(600):
            services.clock.now += 1
            probes += await services.worker.probe()
        assert 30 < probes < 60
        assert len(services.receiver.got) == sent + probes
        assert (services.events_stored, services.failures_stored) == (RECEIVER_FAILURES_TO_OPEN + 3, 0)
        services.receiver.result = AttemptResult(200)
        services.clock.now += 20
        assert await services.worker.probe()
        assert services.observer.reports == ["opened 503", "closed"]
        await services.worker.deliver()
        assert services.events_stored == 0
        assert set(later) <= set(services.receiver.ids())

    async def test_one_worker_at_a_time_probes(self, services: WebhookServices) -> None:
        await self.fail(services)
        workers = [HostWorker(services) for _ in range(4)]
        services.clock.now += 5
        assert sum([await worker.probe() for worker in workers]) == 1

    async def test_events_that_the_receiver_always_fails_on_do_not_keep_the_breaker_open(
        self, services: WebhookServices
    ) -> None:
        ids = await self.fail(services)
        services.receiver.result, services.receiver.fails_on = AttemptResult(200), set(ids[:5])
        for _ in range(200):
            services.clock.now += 1
            await services.worker.probe()
        # Whether one of those was a probe before the breaker closed depends on the jitter of their schedules.
        assert services.observer.reports in (["opened 503", "closed"], ["opened 503", "opened 500", "closed"])

    async def test_failures_before_a_recovery_that_another_worker_saw_do_not_count_toward_the_next_outage(
        self, services: WebhookServices
    ) -> None:
        await self.fail(services)
        other = HostWorker(services)
        services.receiver.result = AttemptResult(200)
        services.clock.now += 5
        assert await other.probe()
        services.receiver.result = AttemptResult(503)
        services.clock.now += 1
        await services.worker.deliver(limit=1)
        assert services.observer.reports == ["opened 503", "closed"]

    async def test_a_new_start_of_the_server_sends_at_once(self, services: WebhookServices) -> None:
        await self.fail(services)
        services.receiver.result = AttemptResult(200)
        services.clock.now += 2
        await HostWorker(services, run=2).deliver()
        assert services.events_stored == 0


class TestCapacity:
    async def test_a_used_up_quota_rejects_creations_and_not_responses(self) -> None:
        services = WebhookServices(size=1 << 20, bytes_per_event=(1 << 20) // 5)
        services.receiver.result = AttemptResult(503)
        waiting = Device.generate()
        created = await services.create_challenge(waiting)
        await ended(services, 5)
        services.clock.now += 1
        with pytest.raises(Overloaded) as rejected:
            await services.create_challenge(Device.generate())
        assert rejected.value.retry_after == 5
        await services.approve(waiting, created)
        assert services.events_stored == 6
        services.receiver.result = AttemptResult(200)
        services.clock.now += 3
        await services.worker.deliver()
        services.clock.now += 1
        assert await services.create_challenge(Device.generate())

    async def test_space_is_reserved_for_the_events_of_pending_challenges(self) -> None:
        services = WebhookServices(size=1 << 20, bytes_per_end=(1 << 20) // 5)
        for _ in range(5):
            await services.create_challenge(Device.generate("Ed25519"))
        services.clock.now += 1
        with pytest.raises(Overloaded):
            await services.create_challenge(Device.generate())
        assert (services.store.count(CHALLENGE), services.store.count(EVENT)) == (5, 0)

    async def test_an_idempotent_repeat_needs_no_capacity(self) -> None:
        services = WebhookServices(size=1 << 20, bytes_per_end=1 << 20)
        device = Device.generate()
        created = await services.create_challenge(device, key="order-7")
        services.clock.now += 1
        assert await services.create_challenge(device, key="order-7") == created
        with pytest.raises(Overloaded):
            await services.create_challenge(device, key="order-8")


class TestFailures:
    async def test_they_are_deleted_after_a_while(self, services: WebhookServices) -> None:
        services.receiver.result = AttemptResult(400)
        await ended(services)
        await services.worker.deliver()
        await services.worker.webhooks.prune_failures()
        assert services.failures_stored == 1
        services.clock.now += KEPT_SECONDS + 1
        await services.worker.webhooks.prune_failures()
        assert services.failures_stored == 0

    async def test_the_oldest_are_deleted_when_there_are_too_many(self, services: WebhookServices) -> None:
        services.worker = HostWorker(services, backlog=services.worker_backlog, max_failures=3)
        services.receiver.result = AttemptResult(400)
        for _ in range(5):
            await ended(services)
            await services.worker.deliver()
            services.clock.now += 10
        await services.worker.webhooks.prune_failures()
        kept = [key.name for key in await services.store.due(1 << 32, 10, FAILURE)]
        assert [event_id(name) for name in kept] == services.receiver.ids()[2:]
        assert await services.store.get(failure_key(kept[0])) is not None

    async def test_one_call_deletes_all_however_many_there_are(self) -> None:
        """Else a receiver that rejects everything for a while would fill the store."""
        services = WebhookServices(size=64 << 20)
        await give_up(services, 10_000 + 1_234)
        await services.worker.webhooks.prune_failures()
        assert services.failures_stored == 10_000
        services.clock.now += KEPT_SECONDS + 1
        await services.worker.webhooks.prune_failures()
        assert services.failures_stored == 0


async def give_up(services: WebhookServices, count: int) -> None:
    """One failure, and copies of it under other names, written in batches as completions are."""
    services.receiver.result = AttemptResult(400)
    await ended(services)
    await services.worker.deliver()
    (one,) = await services.store.due(1 << 32, 1, FAILURE)
    failure = await services.store.get(one)
    names = [number.to_bytes(16) for number in range(1, count)]
    for batch in (names[start : start + 100] for start in range(0, len(names), 100)):
        writes = tuple((failure_key(name), failure) for name in batch)
        await services.store.transact([], lambda _now, _rows, writes=writes: Decision(None, writes))
