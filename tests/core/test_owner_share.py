"""An owner that uses all that its API key allows leaves space for the others."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from sigil.core.owner_share import dynamic_limit
from sigil.device import Device
from sigil.protocol.action import Action
from sigil.protocol.api_key import Caller
from sigil.protocol.errors import Overloaded, TooManyPending
from sigil.protocol.messages.challenges import CreateChallenge
from tests.support.services import ACTION, CALLER, OTHER_CALLER, Services
from tests.webhooks.webhook_services import WebhookServices

DEVICES = [Device.generate() for _ in range(50)]
LARGE = Action("login", "Sign in", {"text": "x" * 1900})


async def create(services: Services, caller: Caller = CALLER, action: Action = ACTION) -> str:
    """Each challenge is for a device of its own: the limits per device do not apply."""
    device = Device.generate()
    created, _ = await services.challenges.issue(caller, CreateChallenge(device.wire_key, action, None, 300, False))
    return created.challenge_id


async def flood(services: Services, caller: Caller = CALLER, *, cancel: bool = False, action: Action = ACTION) -> int:
    """Creates challenges until that is rejected; returns how many there are."""
    for count in itertools.count():
        try:
            created = await create(services, caller, action)
        except TooManyPending:
            return count
        if cancel:
            await services.challenges.cancel(caller, created)
        services.clock.now += 0.26 if count % 20 == 0 else 0
    raise AssertionError


@pytest.mark.parametrize("cancel", [False, True], ids=["pending", "ended"])
@pytest.mark.parametrize("action", [ACTION, LARGE], ids=["small", "large"])
async def test_one_owner_cannot_fill_the_store(action: Action, cancel: bool) -> None:
    services = Services(share=75)
    assert await flood(services, cancel=cancel, action=action) > 50
    services.clock.now += 1
    for _ in range(50):
        await create(services, OTHER_CALLER)


async def test_each_of_several_floods_leaves_space_for_one_more_owner() -> None:
    services = Services(share=50, size=2 << 20)
    counts = [await flood(services, Caller(bytes([number]) * 16)) for number in range(3)]
    services.clock.now += 1
    for _ in range(10):
        await create(services, OTHER_CALLER)
    assert min(counts) > 10


async def test_large_requests_of_one_owner_leave_space_for_the_others() -> None:
    services = Services(share=75, size=4 << 20)

    async def create_and_cancel() -> None:
        while True:
            services.clock.now += 120
            created = await services.create_approval([DEVICES], 1)
            await services.approvals.cancel(CALLER, created.request_id)

    with pytest.raises(TooManyPending) as limited:
        await create_and_cancel()
    assert limited.value.limit == "key_store"
    services.clock.now += 120
    await services.create_approval([DEVICES], 1, OTHER_CALLER)
    for _ in range(50):
        await create(services, OTHER_CALLER)


async def test_an_owner_has_a_maximum_of_pending_challenges_and_requests() -> None:
    services = Services(max_pending=3)
    first = await create(services)
    await services.create_approval([DEVICES[:1]], 1)
    await create(services)
    for attempt in (create(services), services.create_approval([DEVICES[1:2]], 1)):
        with pytest.raises(TooManyPending, match=r"3 pending.*SIGIL_MAX_PENDING_PER_KEY") as limited:
            await attempt
        assert (limited.value.limit, limited.value.retry_after) == ("key_pending", 5)
    await create(services, OTHER_CALLER)
    await services.challenges.cancel(CALLER, first)
    await create(services)


async def test_a_rejected_large_request_leaves_no_entry_with_its_members() -> None:
    services = Services(max_pending=1, size=16 << 20)
    await create(services)
    members = [Device.generate() for _ in range(60)]
    with pytest.raises(TooManyPending, match="SIGIL_MAX_PENDING_PER_KEY"):
        await services.create_approval([members[:30], members[30:]], 1)
    assert await services.pending_ids(members[0]) == []
    await services.create_approval([members[:30], members[30:]], 1, OTHER_CALLER)


async def test_the_events_of_one_owner_do_not_use_up_the_event_backlog() -> None:
    """The receiver takes nothing, and one owner ends all that it creates."""
    services = WebhookServices(share=75, bytes_per_event=1 << 13)

    async def create_and_approve() -> None:
        while True:
            services.clock.now += 0.26
            device = Device.generate()
            await services.approve(device, await services.create_challenge(device))

    with pytest.raises(TooManyPending) as limited:
        await create_and_approve()
    assert limited.value.limit == "key_events"
    services.clock.now += 1
    await create(services, OTHER_CALLER)


async def test_challenges_of_one_owner_that_all_expire_do_not_use_up_the_event_backlog() -> None:
    """More than the event quota are pending at once, and the receiver takes none of their events."""
    services = WebhookServices(share=75, size=4 << 20)
    quota = services.size // services.bytes_per_event
    assert await flood(services) > quota
    services.clock.now += 301
    await services.sweep()
    assert services.events_stored > quota
    services.clock.now += 1
    for _ in range(quota // 100):
        device = Device.generate()
        await services.approve(device, await services.create_challenge(device, OTHER_CALLER))
    services.clock.now += 1
    for caller in (CALLER, OTHER_CALLER):
        with pytest.raises(TooManyPending) as limited:
            await create(services, caller)
        assert limited.value.limit == "key_events"


async def test_an_owner_alone_gets_its_share_and_with_100_percent_all() -> None:
    shared, whole = Services(share=50), Services(share=100)
    assert await flood(shared) > 100
    with pytest.raises(Overloaded):
        await flood(whole)


@pytest.mark.parametrize(("share", "owners", "each"), [(75, 1, 750), (75, 2, 428), (75, 5, 187), (50, 1, 500)])
def test_owners_that_take_all_they_may_leave_a_part_free(share: int, owners: int, each: int) -> None:
    held = [0] * owners
    for number in itertools.islice(itertools.cycle(range(owners)), 1000 * owners):
        if held[number] < dynamic_limit(share, 1000 - sum(held)):
            held[number] += 1
    assert all(each - 1 <= one <= each + 2 for one in held)
    assert sum(held) < 1000


async def test_one_owner_cannot_hold_all_long_polls() -> None:
    services = Services(share=75)
    services.long_polls._cap = 400
    flooding, other = await create(services), await create(services, OTHER_CALLER)
    polls = [asyncio.create_task(services.challenges.status(CALLER, flooding, wait=25)) for _ in range(500)]
    for _ in range(3):
        await asyncio.sleep(0)
    assert len(services.long_polls) == 300
    others = [asyncio.create_task(services.challenges.status(OTHER_CALLER, other, wait=25)) for _ in range(60)]
    for _ in range(3):
        await asyncio.sleep(0)
    assert not any(poll.done() for poll in others)
    # The first ones beyond the share were answered at once with the present state.
    assert sum(poll.done() for poll in polls) == 200
    await services.challenges.cancel(CALLER, flooding)
    await services.challenges.cancel(OTHER_CALLER, other)
    services.long_polls.wake_all()
    assert {status.status for status in await asyncio.gather(*others)} == {"cancelled"}
    await asyncio.gather(*polls)
    assert len(services.long_polls) == 0
    assert not services.long_polls._of_owner


async def test_an_owner_may_always_hold_some_long_polls_while_there_is_a_place() -> None:
    services = Services(share=1)
    services.long_polls._cap = 100
    created = await create(services)
    polls = [asyncio.create_task(services.challenges.status(CALLER, created, wait=25)) for _ in range(40)]
    for _ in range(3):
        await asyncio.sleep(0)
    assert len(services.long_polls) == 32
    services.long_polls.drain()
    await asyncio.gather(*polls)
