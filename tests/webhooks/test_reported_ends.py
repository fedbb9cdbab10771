"""An end that a read finds is written, with its one event, before it is reported; nothing else causes that write."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from sigil.core.challenge import challenge_key
from sigil.core.webhooks.event import event_key
from sigil.device import Device
from sigil.protocol.encoding.ids import parse_uuid
from sigil.protocol.encoding.text import encode_base64
from sigil.protocol.errors import ChallengeAlreadyUsed, ChallengeExpired, InvalidSignature, MpaClosed, MpaExpired
from sigil.protocol.messages import challenges as messages
from tests.support.services import CALLER, OTHER_CALLER
from tests.webhooks.webhook_services import WebhookServices

DEVICE = Device.generate("Ed25519")


@pytest.fixture
def services() -> WebhookServices:
    return WebhookServices()


async def event_of(services: WebhookServices, name: str) -> Any:
    return await services.store.get(event_key(parse_uuid(name) or b""))


async def events_after_sweeps(services: WebhookServices, name: str) -> list[str]:
    """The bodies that the receiver gets for this id, from now until long after the end."""
    for _ in range(3):
        await services.sweep()
        await services.worker.deliver()
        services.clock.now += 100
    return [body.decode() for event, body in services.receiver.got if event == f"evt_{name}"]


async def poll(services: WebhookServices, created: messages.ChallengeCreated) -> None:
    assert (await services.challenges.status(CALLER, created.challenge_id)).status == "expired"


async def respond(services: WebhookServices, created: messages.ChallengeCreated) -> None:
    with pytest.raises(ChallengeExpired):
        await services.approve(DEVICE, created)


async def reject(services: WebhookServices, created: messages.ChallengeCreated) -> None:
    with pytest.raises(ChallengeExpired):
        await services.reject(DEVICE, created)


async def cancel(services: WebhookServices, created: messages.ChallengeCreated) -> None:
    with pytest.raises(ChallengeAlreadyUsed) as used:
        await services.challenges.cancel(CALLER, created.challenge_id)
    assert used.value.details["status"] == "expired"


@pytest.mark.parametrize("report", [poll, respond, reject, cancel])
async def test_a_reported_expiry_is_written_with_one_event(
    services: WebhookServices, report: Callable[[WebhookServices, messages.ChallengeCreated], Awaitable[None]]
) -> None:
    created = await services.create_challenge(DEVICE, seconds=30)
    services.clock.now += 31
    for _ in range(2):
        await report(services, created)
        row = await services.store.get(challenge_key(parse_uuid(created.challenge_id) or b""))
        assert row.state.wire_name == "expired"
    assert services.events.count("challenge_expired") == 1
    assert len(await events_after_sweeps(services, created.challenge_id)) == 1


async def test_a_client_without_the_device_key_or_the_owners_api_key_causes_no_write(services: WebhookServices) -> None:
    created = await services.create_challenge(DEVICE, seconds=30)
    services.clock.now += 31
    before = dict(services.store._rows)
    forged = messages.Respond(created.challenge_id, encode_base64(bytes(64)), fingerprint=DEVICE.fingerprint)
    for _ in range(3):
        with pytest.raises(InvalidSignature):
            await services.challenges.answer(forged)
        with pytest.raises(Exception, match="does not exist"):
            await services.challenges.status(OTHER_CALLER, created.challenge_id)
    assert dict(services.store._rows) == before
    assert await event_of(services, created.challenge_id) is None


async def test_a_reported_time_out_is_written_with_one_event(services: WebhookServices) -> None:
    created = await services.create_approval([[DEVICE]], 1, name="deploy", seconds=60)
    services.clock.now += 61
    repeated = await services.create_approval([[DEVICE]], 1, name="deploy", seconds=60)
    assert (repeated.mpa_id, repeated.status) == (created.mpa_id, "timeout")
    assert (await event_of(services, created.mpa_id)).kind.name == "MPA_TIMEOUT"
    with pytest.raises(MpaExpired):
        await services.vote(DEVICE, created)
    with pytest.raises(MpaClosed):
        await services.approvals.cancel(CALLER, created.request_id)
    assert services.events.count("mpa_timeout") == 1
    assert len(await events_after_sweeps(services, created.mpa_id)) == 1


async def test_a_used_idempotency_key_after_a_step_forward_loses_no_event_of_its_first_challenge(
    services: WebhookServices,
) -> None:
    """The creation deletes the earlier row, which the sweep has not ended yet."""
    first = await services.create_challenge(DEVICE, seconds=30, key="order-1")
    services.clock.step(3600)
    second = await services.create_challenge(DEVICE, seconds=30, key="order-1")
    assert second.challenge_id != first.challenge_id
    assert len(await events_after_sweeps(services, first.challenge_id)) == 1
    assert len(await events_after_sweeps(services, second.challenge_id)) == 1


async def test_a_used_request_id_after_a_step_forward_loses_no_event_of_its_first_request(
    services: WebhookServices,
) -> None:
    first = await services.create_approval([[DEVICE]], 1, name="deploy", seconds=60)
    services.clock.step(2 * 86_400)
    second = await services.create_approval([[DEVICE]], 1, name="deploy", seconds=60)
    assert second.mpa_id != first.mpa_id
    assert len(await events_after_sweeps(services, first.mpa_id)) == 1


async def test_times_on_the_wire_are_times_of_day_while_the_stores_clock_is_ahead(services: WebhookServices) -> None:
    services.clock.step(3600)
    services.store.now()
    services.clock.step(-3600)
    created = await services.create_challenge(DEVICE, seconds=30)
    assert created.expires_at == "2026-04-24T10:32:45Z"
    services.clock.now += 10
    await services.approve(DEVICE, created)
    assert (await services.challenges.status(CALLER, created.challenge_id)).verified_at == "2026-04-24T10:32:25Z"
    (body,) = await events_after_sweeps(services, created.challenge_id)
    assert '"timestamp":"2026-04-24T10:32:25Z"' in body
    late = await services.create_challenge(DEVICE, seconds=30)
    services.clock.now += 30
    await poll(services, late)
