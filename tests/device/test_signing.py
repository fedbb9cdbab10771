"""The signatures of a software device, and the secrecy of its key."""

from __future__ import annotations

from typing import Any

import pytest

from sigil.device import Device, ServerPin, verify_payload
from sigil.device.errors import ActionRefused, MatchCodeRequired, MatchCodeUnexpected
from sigil.protocol import signed_bytes
from sigil.protocol.encoding.pictogram import pictogram, speakable
from sigil.protocol.encoding.text import decode_base64, format_time
from sigil.protocol.keys import SUITES, Suite
from tests.device.fake_server import ACTION, NOW, as_json, identity, jcs, make_payload

SERVER = identity()
PIN = ServerPin(base_url="https://a.example", server_id=SERVER.server_id, server_public_keys=SERVER.server_public_keys)


@pytest.fixture(params=SUITES)
def device(request: pytest.FixtureRequest) -> Device:
    return Device.generate(request.param)


def payload(device: Device, **changes: Any) -> tuple[bytes, bytes]:
    made = make_payload(SERVER, device.public, **changes)
    return as_json(made), decode_base64(made["challenge_bytes"], "$")


def test_an_approval_verifies_under_its_own_tag_alone(device: Device) -> None:
    text, challenge = payload(device)
    signature = device.approve(text)
    assert device.public.verify(signed_bytes.approval(challenge, jcs(ACTION)), signature)
    assert not device.public.verify(signed_bytes.rejection(challenge, jcs(ACTION)), signature)


def test_a_rejection_verifies_under_its_own_tag_alone(device: Device) -> None:
    text, challenge = payload(device, number_matching=True)
    signature = device.reject(text)
    assert device.public.verify(signed_bytes.rejection(challenge, jcs(ACTION)), signature)
    assert not device.public.verify(signed_bytes.approval(challenge, jcs(ACTION)), signature)


def test_a_matched_approval_covers_the_code(device: Device) -> None:
    text, challenge = payload(device, number_matching=True)
    signature = device.approve(text, "07")
    assert device.public.verify(signed_bytes.matched_approval(challenge, jcs(ACTION), "07"), signature)
    assert not device.public.verify(signed_bytes.matched_approval(challenge, jcs(ACTION), "08"), signature)


def test_a_checked_challenge_and_its_payload_get_the_same_signature(device: Device) -> None:
    text, _ = payload(device)
    shown = verify_payload(text, PIN, device.public, NOW)
    assert device.approve(shown) == device.approve(text)
    assert device.response(shown, "rejected", reason="cancelled") == device.response(
        text, "rejected", reason="cancelled"
    )


def test_a_response_carries_a_code_with_approvals_and_a_reason_with_rejections(device: Device) -> None:
    text, _ = payload(device, number_matching=True)
    approved = device.response(text, "approved", match_code="42", reason="cancelled")
    rejected = device.response(text, "rejected", match_code="42", reason="cancelled")
    assert approved.keys() == {"challenge_id", "fingerprint", "decision", "signature", "match_code"}
    assert rejected.keys() == {"challenge_id", "fingerprint", "decision", "signature", "reason"}


def test_a_match_code_is_required_with_number_matching_and_only_then() -> None:
    device = Device.generate()
    with pytest.raises(MatchCodeRequired):
        device.approve(payload(device, number_matching=True)[0])
    with pytest.raises(MatchCodeUnexpected):
        device.approve(payload(device)[0], "42")


@pytest.mark.parametrize("code", ["", "1", "123", "1a", "42\n", "٤٢"])
def test_a_code_is_two_ascii_digits(code: str) -> None:
    with pytest.raises(ValueError, match="two digits"):
        Device.generate().sign_approval(bytes(32), b"{}", code)


def test_even_an_unchecked_payload_must_have_a_valid_action() -> None:
    device = Device.generate()
    with pytest.raises(ActionRefused):
        device.approve(payload(device, action=b'{"type":"t","description":"d"}')[0])


def test_the_query_for_pending_challenges_signs_the_server_and_the_timestamp(device: Device) -> None:
    body = device.pending_body(SERVER.server_id, int(NOW))
    assert body["timestamp"] == format_time(int(NOW))
    message = signed_bytes.pending(SERVER.server_id, body["timestamp"])
    assert device.public.verify(message, decode_base64(body["signature"], "$"))
    assert decode_base64(body["device_public_key"], "$") == device.public.wire


def test_a_device_has_fingerprint_and_pictogram(device: Device) -> None:
    assert device.pictogram == pictogram(device.fingerprint)
    assert device.pictogram_speakable == speakable(device.fingerprint)
    assert device.suite == device.public.suite


@pytest.mark.parametrize("suite", SUITES)
def test_the_private_key_is_neither_in_the_repr_nor_among_the_attributes(suite: Suite) -> None:
    secret = bytes(range(1, 33))
    device = Device.from_secret(suite, secret)
    printed = repr(device) + repr(vars(device)) + repr([str(value) for value in vars(device).values()])
    assert secret.hex() not in printed
    assert repr(secret)[2:-1] not in printed
