"""The events of one tenant (API key) do not delay those of another."""

from __future__ import annotations

import pytest

from sigil.device import Device
from sigil.protocol.api_key import Caller
from tests.support.services import CALLER, OTHER_CALLER
from tests.webhooks.webhook_services import WebhookServices


async def end_many(services: WebhookServices, caller: Caller, count: int) -> None:
    for _ in range(count):
        device = Device.generate()
        await services.approve(device, await services.create_challenge(device, caller))


@pytest.mark.parametrize("where", ["backlog", "store"])
async def test_the_next_batch_serves_all_tenants(where: str) -> None:
    """Of the worker that wrote the events, and of another one, which queries the store."""
    services = WebhookServices(size=4 << 20)
    await end_many(services, CALLER, 300)
    await end_many(services, OTHER_CALLER, 5)
    services.clock.now += 5
    names = services.worker_backlog.take(20) if where == "backlog" else await services.worker.webhooks.due(20)
    events = [claim[1] for claim in await services.worker.webhooks.claim(names)]
    assert [event.owner for event in events].count(OTHER_CALLER.owner[:8]) == 5
    assert len(events) == 20


async def test_a_probe_does_not_take_the_events_of_one_tenant_alone() -> None:
    services = WebhookServices(size=4 << 20)
    await end_many(services, CALLER, 50)
    await end_many(services, OTHER_CALLER, 1)
    services.clock.now += 5
    probes = [name for _ in range(2) for name in await services.worker.webhooks.due(1)]
    owners = {claim[1].owner for claim in await services.worker.webhooks.claim(probes)}
    assert owners == {CALLER.owner[:8], OTHER_CALLER.owner[:8]}
