"""The client reads the status of the largest approval request, with the largest signatures and credentials."""

from __future__ import annotations

import msgspec

from sigil.core.approvals.approval import BYTES_PER_CREDENTIAL
from sigil.protocol.encoding.text import encode_base64
from sigil.protocol.messages.approvals import (
    MAX_GROUPS,
    MAX_MEMBERS,
    MpaGroup,
    MpaMember,
    MpaStatus,
    MpaVote,
)
from sigil.protocol.messages.attestation import AttestationSummary
from sigil.protocol.webauthn import KEY_LENGTH, MAX_SIGNATURE
from sigil.sdk.http.sans_io import MAX_RESPONSE_BYTES

TIME, NAME = "2026-04-24T10:37:15Z", "f" * 64
LONGEST_ACTION = msgspec.Raw(b'"%s"' % (b"a" * 4096))


def status(vote: MpaVote, key: str) -> bytes:
    group = MpaGroup([MpaMember(key, NAME)] * MAX_MEMBERS)
    largest = MpaStatus(
        request_id="r" * 128,
        mpa_id="550e8400-e29b-41d4-a716-446655440000",
        status="pending",
        groups_satisfied=list(range(MAX_GROUPS)),
        groups_required=MAX_GROUPS,
        groups_total=MAX_GROUPS,
        expires_at=TIME,
        action_context=LONGEST_ACTION,
        server_signature=encode_base64(bytes(64)),
        server_public_key=encode_base64(bytes(33)),
        groups=[group] * MAX_GROUPS,
        votes=[vote] * (MAX_GROUPS * MAX_MEMBERS),
    )
    return msgspec.json.encode(largest)


def test_every_member_may_be_a_web_device() -> None:
    key, signature = encode_base64(bytes(KEY_LENGTH)), encode_base64(bytes(MAX_SIGNATURE))
    vote = MpaVote(NAME, key, 19, "approved", TIME, signature, user_verification=True, synced=False)
    assert 1 << 20 < len(status(vote, key)) < MAX_RESPONSE_BYTES


def test_every_member_may_have_a_credential() -> None:
    key, signature = encode_base64(bytes(35)), encode_base64(bytes(64))
    attested = AttestationSummary("apple-appattest", "secure_element", "witness", TIME)
    credential = "c" * BYTES_PER_CREDENTIAL
    vote = MpaVote(NAME, key, 19, "approved", TIME, signature, attestation=attested, device_credential=credential)
    assert 1 << 20 < len(status(vote, key)) < MAX_RESPONSE_BYTES
