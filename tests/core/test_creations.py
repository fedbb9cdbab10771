"""Rows of sampled traces: they hold the span that created them, and others are as they were."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from sigil.core import challenge as challenges
from sigil.core.approvals import approval as approvals
from sigil.core.approvals import voting
from sigil.core.approvals.approval import Approval, approval_key
from sigil.core.approvals.quorum import OPEN
from sigil.core.approvals.voting import Ballot
from sigil.core.challenge import Challenge
from sigil.core.expiry import sweep
from sigil.core.session_store import Decision
from sigil.core.webhooks import delivery
from sigil.core.webhooks.delivery import AttemptResult, Failure
from sigil.core.webhooks.event import EVENT, Event, claim, event_key

NOW = 1_800_000_000.0
ID = bytes(range(16))
CREATION, OF_EVENT = b"c" * 25, b"e" * 25


def challenge(creation: bytes | None = CREATION, **changed: Any) -> Challenge:
    given = {"owner": b"o" * 16, "nonce": b"n" * 32, "action": b'{"type":"x"}', "lifetime": 300, **changed}
    return Challenge(public_key=b"\x02" * 33, created_ms=int(NOW * 1000), creation=creation, **given)


def approval(creation: bytes | None = CREATION) -> Approval:
    return Approval(
        owner=b"o" * 16,
        request_id="r",
        nonce=b"n" * 32,
        action=b'{"type":"x"}',
        created_ms=int(NOW * 1000),
        lifetime=300,
        required=1,
        reject_on_first=False,
        sizes=(1,),
        members=(b"\x02" * 33,),
        groups_sha256="0" * 64,
        ballots=OPEN,
        creation=creation,
    )


def event_in(decision: Decision[Any]) -> Event:
    (found,) = (row for key, row in decision.writes if key.kind is EVENT)
    return found


@pytest.mark.parametrize("creation", [OF_EVENT, None])
def test_every_end_writes_the_creation_of_its_event(creation: bytes | None) -> None:
    row, wrong = challenge(), challenge(wrong_codes=2)
    options: Any = {"emit_event": True, "event_creation": creation}
    ballot = Ballot(0, approved=True, signature=b"s")
    late = NOW + 301
    rows: dict[Any, Any] = dict.fromkeys([voting.ledger_key(b"\x02" * 33)])
    rows[approval_key(ID)] = approval()
    created = {} if creation is None else {ID: creation}
    for decision in (
        challenges.answer(NOW, ID, row, None, approved=True, **options),
        challenges.answer(NOW, ID, row, None, approved=False, **options),
        challenges.wrong_code(NOW, ID, wrong, None, **options),
        voting.vote(NOW, ID, ballot, rows, **options),
        sweep(late, {challenges.challenge_key(ID): row}, emit_events=True, creations=created),
        sweep(late, {approval_key(ID): approval()}, emit_events=True, creations=created),
    ):
        assert event_in(decision).creation == creation


def test_an_event_keeps_its_creation_through_claims_retries_failure_and_replay() -> None:
    key, event = challenges.event_of(NOW, ID, challenges.expired(challenge()), OF_EVENT)
    ((_, claimed),) = claim(NOW, [key], [event], b"token").result
    retried = delivery.complete(
        NOW, [(ID, claimed)], [AttemptResult(500)], [claimed], schedule=(1,), jitters=[0.5]
    ).result[0]
    given_up = delivery.complete(NOW, [(ID, claimed)], [AttemptResult(400)], [claimed], schedule=(1,), jitters=[0.5])
    (failure,) = (row for _, row in given_up.writes if isinstance(row, Failure))
    replayed = dict(delivery.replay(NOW, ID, failure).writes)[event_key(ID)]
    kept = [claimed, retried.next, failure.event, replayed]
    assert [row.creation for row in kept] == [OF_EVENT] * 4


@pytest.mark.parametrize("make", [challenge, approval])
def test_a_sampled_row_is_26_bytes_longer_and_is_charged_for_them(make: Any) -> None:
    plain, sampled = make(None), make(CREATION)
    assert len(msgspec.msgpack.encode(sampled)) - len(msgspec.msgpack.encode(plain)) == 26
    assert sampled.share[3] - plain.share[3] == 25
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(sampled), type=type(sampled)) == sampled


def test_a_sampled_event_is_charged_for_its_creation() -> None:
    (_, plain), (_, sampled) = (
        challenges.event_of(NOW, ID, challenges.expired(challenge()), creation) for creation in (None, OF_EVENT)
    )
    assert len(msgspec.msgpack.encode(sampled)) - len(msgspec.msgpack.encode(plain)) == 26
    assert sampled.share[3] - plain.share[3] == 25


def test_the_state_of_an_ended_row_keeps_its_creation() -> None:
    assert challenges.expired(challenge()).creation == CREATION
    assert approvals.timed_out(approval()).creation == CREATION
