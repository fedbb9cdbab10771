"""The status of a real service with votes of web devices is a proof, and tells what each proves of its user."""

from __future__ import annotations

import json
from typing import Any, cast

import msgspec
import pytest

from sigil.device import Device
from sigil.enrolment.service import EnrolmentPolicy
from sigil.protocol.keys import PrivateKey
from sigil.sdk import ConfigurationError, UserVerification, VotesRefused, WebVoteRefused, verify_votes
from tests.support.services import IDENTITY, Services
from tests.support.web_key import BE, BS, UP, UV, WebKey

ORIGIN = "https://auth.example.com"


class SyncedKey(WebKey):
    def sign(self, message: bytes, **forged: Any) -> bytes:
        return super().sign(message, **{"flags": UP | UV | BE | BS, **forged})


def device(key: WebKey) -> Device:
    return Device(cast(PrivateKey, key))


async def audited() -> tuple[dict[str, Any], list[Device]]:
    """Two web devices and a plain one approve, a third web device rejects."""
    running = Services(enrolment_policy=EnrolmentPolicy(server_name="Example", public_url=ORIGIN))
    web, synced, rejecting = (device(key) for key in (WebKey(ORIGIN), SyncedKey(ORIGIN), WebKey(ORIGIN)))
    plain = Device.generate()
    requested = await running.create_approval([[web], [synced], [plain], [rejecting]], 3)
    await running.vote(rejecting, requested, "rejected")
    for voter in (web, synced, plain):
        await running.vote(voter, requested)
    status = await running.approval_status(requested)
    return json.loads(msgspec.json.encode(status)), [web, synced, plain, rejecting]


async def test_a_status_of_the_server_tells_which_approvals_carried_user_verification() -> None:
    status, (web, synced, plain, rejecting) = await audited()
    verified = verify_votes(status, server_id=IDENTITY.server_id, required=3)
    assert verified.approved
    assert set(verified.approved_by) == {web.fingerprint, synced.fingerprint, plain.fingerprint}
    assert verified.rejected_by == (rejecting.fingerprint,)
    assert verified.user_verifications == {
        web.fingerprint: UserVerification(ORIGIN, synced=False),
        synced.fingerprint: UserVerification(ORIGIN, synced=True),
        rejecting.fingerprint: None,
    }
    with pytest.raises(WebVoteRefused):
        verify_votes(status, server_id=IDENTITY.server_id, required=3, web_votes="refuse")
    with pytest.raises(ConfigurationError, match="web_votes"):
        verify_votes(status, server_id=IDENTITY.server_id, required=3, web_votes=cast(Any, "ignore"))


async def test_no_bit_of_a_web_vote_can_be_changed() -> None:
    status, _ = await audited()
    text = json.dumps(status)
    for vote in status["votes"]:
        signature = vote["signature"]
        # Within the base64 text, but not its last character, whose trailing bits have one spelling.
        for at in range(0, len(signature) - 4, 53):
            other = "A" if signature[at] != "A" else "B"
            forged = text.replace(signature, f"{signature[:at]}{other}{signature[at + 1 :]}")
            with pytest.raises(VotesRefused):
                verify_votes(forged, server_id=IDENTITY.server_id, required=3)
