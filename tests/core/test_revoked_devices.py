"""SIGIL_REVOKED_DEVICES: a lost device gets no challenge and approves nothing, and may still reject."""

from __future__ import annotations

import pytest

from sigil.device import Device
from sigil.protocol.errors import (
    AlreadyAnswered,
    ChallengeAlreadyUsed,
    ChallengeExpired,
    DeviceRevoked,
    InvalidSignature,
    MpaClosed,
)
from tests.support.services import CALLER, Services

LOST, OTHER = Device.from_secret("ES256", b"\x07" * 32), Device.from_secret("Ed25519", b"\x08" * 32)


@pytest.fixture
def services() -> Services:
    return Services()


def revoke(services: Services, *devices: Device) -> None:
    services.challenges._devices._revoked = frozenset(device.fingerprint for device in devices)


async def test_a_revoked_device_gets_no_challenge_and_no_request() -> None:
    services = Services(revoked=frozenset({LOST.fingerprint}))
    with pytest.raises(DeviceRevoked):
        await services.create_challenge(LOST)
    with pytest.raises(DeviceRevoked) as named:
        await services.create_approval([[OTHER], [LOST]], 1)
    assert named.value.details == {"path": "$.groups[1].members[0].device_public_key"}
    await services.create_challenge(OTHER)
    assert services.events == ["challenge_created"]


async def test_a_challenge_of_before_can_be_rejected_and_not_approved(services: Services) -> None:
    created = await services.create_challenge(LOST)
    revoke(services, LOST)
    with pytest.raises(DeviceRevoked):
        await services.approve(LOST, created)
    assert (await services.challenges.status(CALLER, created.challenge_id)).status == "pending"
    await services.reject(LOST, created, "unknown_trigger")
    with pytest.raises(ChallengeAlreadyUsed):
        await services.approve(LOST, created)


async def test_a_vote_of_a_request_of_before_can_be_a_rejection_alone(services: Services) -> None:
    created = await services.create_approval([[LOST], [OTHER]], 2)
    revoke(services, LOST)
    with pytest.raises(DeviceRevoked):
        await services.vote(LOST, created)
    await services.vote(OTHER, created)
    assert (await services.vote(LOST, created, "rejected")).status == "rejected"
    with pytest.raises((AlreadyAnswered, MpaClosed)):
        await services.vote(LOST, created)


async def test_what_is_not_its_own_tells_nothing_of_a_revocation(services: Services) -> None:
    """The order of checks: 404, 401, 409, 410, and only then 403."""
    created = await services.create_challenge(OTHER)
    late = await services.create_challenge(LOST, seconds=30)
    revoke(services, LOST, OTHER)
    with pytest.raises(InvalidSignature):
        await services.approve(LOST, created)
    services.clock.now += 30
    with pytest.raises(ChallengeExpired):
        await services.approve(LOST, late)
