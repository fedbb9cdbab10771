"""Credentials in answers and votes: the order of checks, what a refusal leaves as it was, and what is reported."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from sigil.attestation import credentials
from sigil.attestation.statements import Attested
from sigil.core.approvals.approval import BYTES_PER_CREDENTIAL
from sigil.core.webhooks.event import EVENT
from sigil.delivery.backlog import Backlog, EventBacklog
from sigil.device import Device
from sigil.protocol.device_credential import parse, public_part
from sigil.protocol.encoding.text import format_time
from sigil.protocol.errors import (
    AlreadyAnswered,
    AttestationInvalid,
    AttestationRequired,
    ChallengeAlreadyUsed,
    ChallengeExpired,
    ChallengeNotFound,
    DeviceRevoked,
    InvalidSignature,
    MpaClosed,
    MpaExpired,
    NotEligible,
    Problem,
)
from sigil.protocol.keys import Suite
from sigil.sdk import AttestationMissing, verify_votes
from sigil.webhooks.messages import body
from tests.attestation.examples import ANDROID, POLICY, YUBIKEY
from tests.support.services import (
    ACTION,
    CALLER,
    IDENTITY,
    START,
    Services,
    all_reads_before_any_transaction,
    as_status,
)

DAY = 86_400
ANNA, BERT, CARL, DORA = (Device.from_secret("ES256", bytes([n]) * 32) for n in range(11, 15))
REQUIRED = replace(POLICY, required=True)
Refusal = type[Problem]


class Attesting(Services):
    def _make_event_backlog(self) -> EventBacklog:
        return EventBacklog(Backlog())

    async def event_bodies(self) -> list[dict[str, Any]]:
        due = await self.store.due(self.clock() + DAY, 10, EVENT)
        return [json.loads(body(key.name, await self.store.get(key))) for key in due]


def credential_of(device: Device, attested: Attested = ANDROID, at: float = START - 5 * DAY) -> str:
    return credentials.issue(attested, device.public, credentials.times(at, POLICY), IDENTITY.keys["ES256"], bytes(16))


SUMMARY = {
    "kind": "android-key",
    "level": "hardware",
    "binding": "direct",
    "attested_at": format_time(int(START - 5 * DAY)),
}


@pytest.fixture
def services() -> Attesting:
    return Attesting(accepted=REQUIRED)


async def test_an_attested_approval_is_stated_in_the_status_and_the_event(services: Attesting) -> None:
    created = await services.create_challenge(ANNA)
    assert "attestation" not in as_json(await services.challenges.status(CALLER, created.challenge_id))
    await services.approve(ANNA, created, credential=credential_of(ANNA))
    status = as_json(await services.challenges.status(CALLER, created.challenge_id))
    assert status["attestation"] == SUMMARY
    (event,) = await services.event_bodies()
    assert event["attestation"] == SUMMARY
    assert "1a" not in json.dumps([status["attestation"], event["attestation"]])


def as_json(message: Any) -> dict[str, Any]:
    return dict(json.loads(msgspec.json.encode(message)))


async def test_without_a_credential_nothing_is_stated_where_none_is_required() -> None:
    services = Attesting(accepted=POLICY)
    created = await services.create_challenge(ANNA)
    await services.approve(ANNA, created)
    assert "attestation" not in as_json(await services.challenges.status(CALLER, created.challenge_id))
    (event,) = await services.event_bodies()
    assert "attestation" not in event


async def test_a_server_without_attestation_ignores_a_credential() -> None:
    services = Attesting()
    created = await services.create_challenge(ANNA)
    await services.approve(ANNA, created, credential=credential_of(ANNA))
    assert "attestation" not in as_json(await services.challenges.status(CALLER, created.challenge_id))


BAD: dict[str, tuple[Callable[[], str | None], Refusal]] = {
    "none": (lambda: None, AttestationRequired),
    "malformed": (lambda: "sdc1.x", AttestationInvalid),
    "of another device": (lambda: credential_of(BERT), AttestationInvalid),
    "expired": (lambda: credential_of(ANNA, at=START - 91 * DAY), AttestationInvalid),
    "without its fourth part": (lambda: public_part(credential_of(ANNA)), AttestationInvalid),
    "an emulator": (lambda: credential_of(ANNA, ANDROID._replace(level="emulator")), AttestationInvalid),
    "another app": (lambda: credential_of(ANNA, ANDROID._replace(app="x:00")), AttestationInvalid),
}


@pytest.mark.parametrize("case", BAD)
async def test_a_refusal_changes_nothing_and_a_later_valid_answer_wins(services: Attesting, case: str) -> None:
    bad, refusal = BAD[case]
    created = await services.create_challenge(ANNA)
    before = stored(services)
    for _ in range(3):
        with pytest.raises(refusal):
            await services.approve(ANNA, created, credential=bad())
    assert stored(services) == before
    assert (await services.approve(ANNA, created, credential=credential_of(ANNA))).verified


def stored(services: Attesting) -> dict[bytes, Any]:
    return dict(services.store._rows)


@pytest.mark.parametrize("credential", [None, "junk", "expired"])
async def test_a_rejection_needs_no_credential_and_ignores_one(services: Attesting, credential: str | None) -> None:
    created = await services.create_challenge(ANNA)
    assert (await services.reject(ANNA, created)).status == "rejected"
    created = await services.create_approval([[ANNA]], 1)
    assert (await services.vote(ANNA, created, "rejected", credential=credential)).status == "rejected"


async def test_what_comes_first_is_reported_first(services: Attesting) -> None:
    """404, 401, 409 and 410 as without attestation, also with a credential that does not count."""
    created = await services.create_challenge(ANNA)
    unknown = msgspec.structs.replace(created, challenge_id="0" * 8 + created.challenge_id[8:])
    with pytest.raises(ChallengeNotFound):
        await services.approve(ANNA, unknown)
    forged = msgspec.structs.replace(created, challenge_bytes="A" * 43 + "=")
    with pytest.raises(InvalidSignature):
        await services.approve(ANNA, forged)
    await services.approve(ANNA, created, credential=credential_of(ANNA))
    for given in (None, "junk"):
        with pytest.raises(ChallengeAlreadyUsed):
            await services.approve(ANNA, created, credential=given)
    late = await services.create_challenge(ANNA, seconds=30)
    services.clock.now += 31
    for given in (None, "junk"):
        with pytest.raises(ChallengeExpired):
            await services.approve(ANNA, late, credential=given)


async def test_a_wrong_code_counts_without_a_credential_too(services: Attesting) -> None:
    created = await services.create_challenge(ANNA, matching=True)
    wrong = f"{(int(created.match_code or '0') + 1) % 100:02d}"
    for _ in range(3):
        with pytest.raises(InvalidSignature):
            await services.approve(ANNA, created, wrong)
    status = await services.challenges.status(CALLER, created.challenge_id)
    assert (status.status, status.reason) == ("rejected", "wrong_code")


async def test_a_revoked_device_is_not_eligible_before_its_credential_is_read() -> None:
    services = Attesting(accepted=REQUIRED)
    created, request = await services.create_challenge(ANNA), await services.create_approval([[ANNA]], 1)
    services.challenges._devices._revoked = frozenset({ANNA.fingerprint})
    with pytest.raises(DeviceRevoked):
        await services.approve(ANNA, created, credential="junk")
    with pytest.raises(DeviceRevoked):
        await services.vote(ANNA, request, credential="junk")
    services.challenges._devices._revoked = frozenset()


@pytest.mark.parametrize("suite", ["ES256", "ES256K", "Ed25519"])
async def test_an_attested_device_may_sign_in_any_suite(services: Attesting, suite: Suite) -> None:
    device = Device.generate(suite)
    created = await services.create_challenge(device)
    assert (await services.approve(device, created, credential=credential_of(device))).verified


async def test_of_many_answers_at_once_one_with_a_credential_wins(services: Attesting) -> None:
    created = await services.create_challenge(ANNA)
    good = credential_of(ANNA)

    async def answer(credential: str | None) -> str:
        try:
            await services.approve(ANNA, created, credential=credential)
        except Problem as error:
            return error.code
        return "won"

    async with all_reads_before_any_transaction(services.store, 10):
        results = await asyncio.gather(*(answer(good if number % 2 else None) for number in range(20)))
    assert results.count("won") == 1
    assert results.count("CHALLENGE_ALREADY_USED") == 9
    assert results.count("ATTESTATION_REQUIRED") == 10


# Votes


async def test_votes_carry_the_public_part_and_are_verified_offline(services: Attesting) -> None:
    created = await services.create_approval([[ANNA, BERT], [CARL], [DORA]], 2)
    await services.vote(DORA, created, "rejected", credential="junk")
    await services.vote(ANNA, created, credential=credential_of(ANNA))
    await services.vote(CARL, created, credential=credential_of(CARL, YUBIKEY))
    raw = await services.approvals.status(CALLER, created.request_id)
    votes = {vote.fingerprint: vote for vote in as_status(raw).votes}
    for device, attested in ((ANNA, ANDROID), (CARL, YUBIKEY)):
        vote = votes[device.fingerprint]
        assert vote.device_credential == public_part(credential_of(device, attested))
        assert vote.attestation is not None
        assert (vote.attestation.kind, vote.attestation.level) == attested[:2]
    assert votes[DORA.fingerprint].device_credential is None
    assert votes[DORA.fingerprint].attestation is None
    facts = credential_of(ANNA).rpartition(".")[2].encode()
    assert facts not in bytes(raw)
    verified = verify_votes(
        bytes(raw), server_id=IDENTITY.server_id, required=2, require_attestation=True, min_level="hardware"
    )
    assert verified.approved


async def test_a_vote_without_a_credential_fails_an_audit_that_requires_one() -> None:
    services = Attesting(accepted=POLICY)
    created = await services.create_approval([[ANNA]], 1)
    await services.vote(ANNA, created)
    raw = bytes(await services.approvals.status(CALLER, created.request_id))
    assert verify_votes(raw, server_id=IDENTITY.server_id, required=1).approved
    with pytest.raises(AttestationMissing):
        verify_votes(raw, server_id=IDENTITY.server_id, required=1, require_attestation=True)


@pytest.mark.parametrize("case", BAD)
async def test_a_refused_vote_changes_nothing_and_a_later_valid_one_counts(services: Attesting, case: str) -> None:
    bad, refusal = BAD[case]
    created = await services.create_approval([[ANNA], [BERT]], 2)
    before = stored(services)
    for _ in range(2):
        with pytest.raises(refusal):
            await services.vote(ANNA, created, credential=bad())
    assert stored(services) == before
    assert (await services.vote(ANNA, created, credential=credential_of(ANNA))).status == "recorded"
    assert (await services.vote(BERT, created, credential=credential_of(BERT))).status == "approved"


async def test_what_comes_first_is_reported_first_for_votes_too() -> None:
    services = Attesting(accepted=REQUIRED, exclude_requester=True)
    action = type(ACTION)(ACTION.type, ACTION.description, {"requested_by": DORA.fingerprint})
    created = await services.create_approval([[ANNA, DORA], [BERT], [CARL]], 1, action=action)
    context = (await services.approval_status(created)).action_context

    async def refusal(device: Device, signed: Any = None) -> type[Problem]:
        with pytest.raises(Problem) as caught:
            await services.vote_on(device, created, context, signed=signed)
        return type(caught.value)

    assert await refusal(DORA) is NotEligible
    assert await refusal(Device.generate()) is InvalidSignature
    assert await refusal(ANNA, "rejected") is InvalidSignature
    await services.vote(BERT, created, "rejected")
    assert await refusal(BERT) is AlreadyAnswered
    await services.vote(ANNA, created, credential=credential_of(ANNA))
    assert await refusal(CARL) is MpaClosed
    created = await services.create_approval([[ANNA], [BERT]], 2)
    context = (await services.approval_status(created)).action_context
    services.clock.now += 301
    assert await refusal(ANNA) is MpaExpired


async def test_a_serial_that_is_revoked_meanwhile_stops_the_next_approval(services: Attesting) -> None:
    text = credential_of(ANNA)
    created = await services.create_challenge(ANNA)
    await services.approve(ANNA, created, credential=text)
    services.credentials._status = Listed()
    created = await services.create_challenge(ANNA)
    with pytest.raises(AttestationInvalid) as caught:
        await services.approve(ANNA, created, credential=text)
    assert caught.value.details == {"reason": "revoked"}
    assert (await services.reject(ANNA, created)).status == "rejected"


class Listed:
    def revoked(self, serial: str) -> bool:
        return serial == "2b"

    def is_old(self, now: float) -> bool:
        return False


# Space


LONGEST = ANDROID._replace(level="secure_element", app=f"{'p' * 255}:{'0' * 64}")


def test_the_longest_credential_fits_in_what_a_request_reserves_for_it() -> None:
    packed = parse(credential_of(ANNA, LONGEST)).public.packed
    assert len(packed) + 16 <= BYTES_PER_CREDENTIAL
