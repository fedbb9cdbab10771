"""What attestation adds to rows in the store on disk: votes and ends take no more than was kept free for them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest

from sigil.app.state import KINDS
from sigil.attestation import credentials
from sigil.attestation.policy import AttestationPolicy
from sigil.core import challenge as rules
from sigil.core.approvals.approval import BYTES_PER_BALLOT, BYTES_PER_CREDENTIAL
from sigil.core.challenge import Challenge
from sigil.core.evidence import Evidence
from sigil.core.session_store import Decision, Key
from sigil.core.store_capacity import BYTES_PER_END, BYTES_PER_END_WITHOUT_EVENT
from sigil.device import Device
from sigil.store.lmdb import LmdbStore
from tests.attestation.examples import ANDROID, POLICY
from tests.support.services import IDENTITY, START, Services

SIZE = 64 << 20
LONGEST = ANDROID._replace(level="secure_element", app=f"{'p' * 255}:{'0' * 64}")
ATTESTED = replace(POLICY, android_apps=(("p" * 255, bytes(32)),))
VOTERS = [Device.from_secret("Ed25519", (1 + n).to_bytes(32)) for n in range(40)]


@pytest.mark.parametrize(("emit_event", "kept_free"), [(True, BYTES_PER_END), (False, BYTES_PER_END_WITHOUT_EVENT)])
async def test_an_attested_end_takes_no_more_than_every_pending_challenge_keeps_free(
    memory_directory: Path, emit_event: bool, kept_free: int
) -> None:
    services, count = Services(), 4000
    store = LmdbStore(memory_directory, size=SIZE, kinds=KINDS, clock=services.steady)
    drawn = Random(55).randbytes  # noqa: S311 - not secret, but the same in every run
    evidence = Evidence("apple-appattest", "secure_element", "witness", int(START))
    rows: list[tuple[bytes, list[Key]]] = []
    for _ in range(count):
        name = drawn(16)
        made = Challenge(drawn(33), b"o" * 16, drawn(32), b'{"description":"x","type":"y"}', int(START * 1000), 300)
        rows.append((name, [rules.challenge_key(name), rules.ledger_key(made.public_key)]))
        writes = ((rows[-1][1][0], made),)
        await store.transact([], lambda now, found, writes=writes: Decision(None, writes), creates=True)
    before = store.usage().used
    for name, keys in rows:

        def rule(now: float, found: tuple[Any, ...], name: bytes = name) -> Decision[Challenge]:
            return rules.answer(now, name, *found, approved=True, evidence=evidence, emit_event=emit_event)

        await store.transact(keys, rule)
    taken = (store.usage().used - before) / count
    store.close()
    assert taken <= kept_free


@pytest.mark.parametrize(
    ("accepted", "most"),
    [
        pytest.param(AttestationPolicy(), BYTES_PER_BALLOT, id="without attestation"),
        pytest.param(ATTESTED, BYTES_PER_BALLOT + BYTES_PER_CREDENTIAL, id="with attestation"),
    ],
)
async def test_the_votes_of_a_request_take_no_more_than_it_reserved(
    memory_directory: Path, accepted: AttestationPolicy, most: int
) -> None:
    class Stored(Services):
        def _make_store(self) -> Any:
            return LmdbStore(memory_directory, size=SIZE, kinds=KINDS, clock=self.steady)

    services = Stored(accepted=accepted, size=SIZE)
    # One group that is approved at once, and one that can no longer decide: all may vote, and the request stays open.
    requests = [await services.create_approval([VOTERS, [Device.generate("Ed25519")]], 2) for _ in range(5)]
    reserved, before = services.store.usage().reserved, services.store.usage().used
    assert reserved == 5 * (len(VOTERS) + 1) * most
    for created in requests:
        context = (await services.approval_status(created)).action_context
        for device in VOTERS:
            times = credentials.times(START, accepted)
            text = credentials.issue(LONGEST, device.public, times, IDENTITY.keys["ES256"], bytes(16))
            await services.vote_on(device, created, context, credential=text if accepted.kinds else None)
    after = services.store.usage()
    services.store.close()
    assert after.reserved == 5 * most
    assert after.used - before <= reserved - after.reserved
