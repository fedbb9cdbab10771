"""Votes with the longest credentials, in the store on disk: they take no more than their request reserved."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sigil.app.state import KINDS
from sigil.attestation import credentials
from sigil.attestation.policy import AttestationPolicy
from sigil.core.approvals.approval import BYTES_PER_BALLOT, BYTES_PER_CREDENTIAL
from sigil.device import Device
from sigil.store.lmdb import LmdbStore
from tests.attestation.examples import ANDROID, POLICY
from tests.support.services import IDENTITY, START, Services

SIZE = 64 << 20
LONGEST = ANDROID._replace(level="secure_element", app=f"{'p' * 255}:{'0' * 64}")
ATTESTED = replace(POLICY, android_apps=(("p" * 255, bytes(32)),))
VOTERS = [Device.from_secret("Ed25519", (1 + n).to_bytes(32)) for n in range(40)]


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
