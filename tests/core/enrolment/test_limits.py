"""Idempotency, capacity and long polls."""

from __future__ import annotations

import asyncio
import hashlib

import pytest

from sigil.core.enrolment.row import ENROLMENT
from sigil.core.session_store import Decision, tally_key
from sigil.enrolment.service import EnrolmentPolicy
from sigil.protocol.encoding.ids import parse_uuid
from sigil.protocol.enrolment.link import parse_uri
from sigil.protocol.errors import IdempotencyConflict, InvalidRequest, Overloaded, TooManyEnrolments
from sigil.protocol.messages.enrolment import BeginEnrolment
from sigil.sessions.idempotency import Idempotency
from tests.support.services import CALLER, OTHER_CALLER, Services, all_reads_before_any_transaction

from .steps import POLICY, STATEMENT, Attesting, EventfulServices, begin, claimed, enrolled, until


async def test_the_same_idempotency_key_and_body_begin_one_enrolment(services: Services) -> None:
    body = BeginEnrolment("alice")
    first, replayed = await services.enrolments.begin(CALLER, body, Idempotency("key", b"body"))
    assert not replayed
    services.enrolments._policy = EnrolmentPolicy("Example", "https://other.example.com")
    assert await services.enrolments.begin(CALLER, body, Idempotency("key", b"body")) == (first, True)
    with pytest.raises(IdempotencyConflict):
        await services.enrolments.begin(CALLER, body, Idempotency("key", b"other"))
    other, replayed = await services.enrolments.begin(OTHER_CALLER, body, Idempotency("key", b"body"))
    assert not replayed
    assert other.token != first.token


async def test_open_enrolments_of_one_owner_have_a_limit() -> None:
    services = EventfulServices(enrolment_policy=POLICY, max_enrolments=2)
    first = await begin(services)
    second = await begin(services)
    with pytest.raises(TooManyEnrolments) as refused:
        await begin(services)
    assert refused.value.limit == "key_enrolments"
    await services.enrolments.begin(OTHER_CALLER, BeginEnrolment("bob"))
    await services.enrolments.cancel(CALLER, first.enrolment_id)
    await begin(services)
    with pytest.raises(TooManyEnrolments):
        await begin(services)
    await enrolled(services, second)
    await begin(services)
    services.clock.now += 600
    await services.sweep()
    await begin(services)
    await begin(services)
    tally = services.store.peek(tally_key(CALLER.owner))
    assert tally.enrolments == 2


async def test_a_full_store_rejects_new_enrolments_and_completes_the_open_ones() -> None:
    services = EventfulServices(enrolment_policy=POLICY, max_enrolments=10_000, size=1 << 20, attestation=Attesting())
    begun = []

    async def fill() -> None:
        while True:
            begun.append(await begin(services, account="💎" * 128))

    with pytest.raises(Overloaded):
        await fill()
    assert 30 < len(begun) < 70
    for one in begun:
        await enrolled(services, one, statement=STATEMENT)
    services.clock.now += 600
    await services.sweep()
    await services.sweep()
    await services.sweep()


@pytest.mark.parametrize("account", ["", "a" * 129, "line\nbreak", "\u202e", " "])
async def test_an_account_must_be_displayable(services: Services, account: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        await begin(services, account=account)
    assert refused.value.details["path"] == "$.account"


async def test_the_same_idempotency_key_at_once_begins_one_enrolment(services: Services) -> None:
    async with all_reads_before_any_transaction(services.store, 3):
        pairs = await asyncio.gather(
            *(services.enrolments.begin(CALLER, BeginEnrolment("alice"), Idempotency("key", b"body")) for _ in range(3))
        )
    assert len({begun.token for begun, _ in pairs}) == 1
    assert sorted(replayed for _, replayed in pairs) == [False, True, True]
    assert services.store.count(ENROLMENT) == 1


async def test_a_device_holds_four_long_polls_and_none_of_the_owners(services: Services) -> None:
    begun = await begin(services)
    phone = await claimed(services, begun)
    waiting = [asyncio.create_task(services.enrolments.wait(phone.waiting(25))) for _ in range(6)]
    await until(lambda: len(services.long_polls) + sum(task.done() for task in waiting) == 6)
    done, pending = [task for task in waiting if task.done()], [task for task in waiting if not task.done()]
    assert [task.result().status for task in done] == ["claimed", "claimed"]
    assert len(pending) == len(services.long_polls) == 4
    page = asyncio.create_task(services.enrolments.status(CALLER, begun.enrolment_id, 25))
    await until(lambda: len(services.long_polls) == 5)
    assert services.long_polls._of_owner[CALLER.owner] == 1
    await services.enrolments.cancel(CALLER, begun.enrolment_id)
    services.long_polls.wake_all()
    assert {task.status for task in await asyncio.gather(*pending)} == {"cancelled"}
    assert (await page).status == "cancelled"


async def test_a_long_poll_returns_at_a_change_and_at_once_for_a_status_that_the_caller_does_not_know(
    services: Services,
) -> None:
    begun = await begin(services)
    page = asyncio.create_task(services.enrolments.status(CALLER, begun.enrolment_id, 25, "pending"))
    await until(lambda: len(services.long_polls) == 1)
    await claimed(services, begun)
    name = parse_uuid(begun.enrolment_id)
    assert name is not None
    assert (await services.store.read_end_log(0)).ids == (name,), "what wakes the long polls of every worker"
    services.long_polls.wake([name])
    assert (await page).status == "claimed"
    at_once = services.enrolments.status(CALLER, begun.enrolment_id, 25, "pending")
    assert (await asyncio.wait_for(at_once, 10)).status == "claimed"


async def test_without_an_address_for_devices_the_error_names_the_setting() -> None:
    services = EventfulServices(enrolment_policy=EnrolmentPolicy())
    with pytest.raises(InvalidRequest, match="SIGIL_PUBLIC_URL"):
        await begin(services)
    begun, _ = await services.enrolments.begin(CALLER, BeginEnrolment("a"), origin="http://localhost:8443")
    assert parse_uri(begun.uri).base_url == "http://localhost:8443"


def test_the_rules_write_what_the_table_names() -> None:
    """`_changed` compares each transition with the table, so a rule cannot bypass it."""
    from sigil.core.enrolment import rules
    from sigil.core.enrolment.row import Enrolment

    row = Enrolment(b"o" * 16, "a", hashlib.sha256(b"t").digest(), "https://a.example", 1000, 60)
    with pytest.raises(KeyError):
        rules._changed(b"i" * 16, row, "confirm", row)
    with pytest.raises(ValueError, match="does not lead"):
        rules._changed(b"i" * 16, row, "cancel", row)
    assert isinstance(rules.cancel(1.0, b"i" * 16, row), Decision)
