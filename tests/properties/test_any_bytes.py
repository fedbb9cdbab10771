"""For any input, protocol functions raise only their own errors."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sigil.protocol.action import Action, action_jcs
from sigil.protocol.api_key import Caller, KeyRing
from sigil.protocol.errors import InvalidPublicKey, InvalidRequest, Unauthorized
from sigil.protocol.identity import DerivedSecrets, InvalidMnemonic
from sigil.protocol.keys import SUITES, PrivateKey, PublicKey, Suite
from sigil.protocol.messages.attestation import AttestDevice
from sigil.protocol.messages.challenges import CreateChallenge, Pending, Respond
from sigil.protocol.messages.decoding import decode_request
from sigil.protocol.messages.enrolment import BeginEnrolment, ClaimEnrolment, CompleteEnrolment, WaitForEnrolment

bounded = settings(max_examples=60)

KINDS = (
    CreateChallenge,
    Respond,
    Pending,
    BeginEnrolment,
    ClaimEnrolment,
    CompleteEnrolment,
    WaitForEnrolment,
    AttestDevice,
)
NAMES = ["device_public_key", "fingerprint", "action", "type", "description", "params", "signature", "timestamp"]
NAMES += ["challenge_id", "decision", "reason", "match_code", "expires_in_seconds", "number_matching", "x", "` - at `$"]
NAMES += ["account", "claim_id", "attestation", "kind", "x5c", "witness", "object", "token", "wait"]
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["approved", "07", "a"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=6),
    max_leaves=12,
)
prefixed = st.sampled_from([b"\x02", b"\x03", b"\xe7\x01\x02", b"\xe7\x01\x03", b"\xed\x01"])
wires = st.binary(max_size=70) | st.builds(
    lambda head, tail: head + tail, prefixed, st.binary(min_size=31, max_size=33)
)


def _read(body: bytes) -> None:
    for kind in KINDS:
        try:
            message: Any = decode_request(body, kind)
        except InvalidRequest as error:
            raised = error.message, error.details["path"]
            assert raised[1].startswith("$")
            assert len("".join(raised)) <= 401
            continue
        if isinstance(message, CreateChallenge):
            with contextlib.suppress(InvalidRequest):
                assert len(action_jcs(message.action)) <= 2048


@bounded
@given(st.binary(max_size=60))
def test_any_bytes_are_a_message_or_an_invalid_request(body: bytes) -> None:
    _read(body)


@bounded
@given(st.dictionaries(st.sampled_from(NAMES), values, max_size=8))
def test_any_json_is_a_message_or_an_invalid_request(document: dict[str, Any]) -> None:
    _read(json.dumps(document).encode())
    _read(json.dumps(document, ensure_ascii=False).encode("utf-8", "surrogatepass"))


@bounded
@given(st.integers(0, 130), st.binary(min_size=1, max_size=4), st.integers(0, 4))
def test_a_valid_body_with_any_bytes_in_it_is_a_message_or_an_invalid_request(
    at: int, more: bytes, removed: int
) -> None:
    good = (
        b'{"device_public_key":"k","expires_in_seconds":30,'
        b'"action":{"type":"a","description":"d","params":{"a":["-0",1]}}}'
    )
    _read(good[:at] + more + good[at + removed :])


@bounded
@given(values)
def test_any_params_are_canonical_or_an_invalid_request(params: Any) -> None:
    """An accepted value is parsed back unchanged, and has no other canonical bytes."""
    action = {"type": "a", "description": "d", "params": params}
    body = json.dumps({"device_public_key": "k", "action": action})
    with contextlib.suppress(InvalidRequest):
        jcs = action_jcs(decode_request(body.encode(), CreateChallenge).action)
        read = json.loads(jcs)
        assert read == ({**action} if params is not None else {"type": "a", "description": "d"})
        assert action_jcs(msgspec.json.decode(jcs, type=Action)) == jcs


@bounded
@given(wires)
def test_any_bytes_are_a_public_key_or_invalid(wire: bytes) -> None:
    try:
        key = PublicKey.parse(wire)
    except InvalidPublicKey as error:
        raised = dict(error.details)
        assert raised == {}
    else:
        assert key.wire == wire
        assert key.verify(b"message", bytes(64)) is False


@pytest.mark.parametrize("suite", SUITES)
@bounded
@given(message=st.binary(max_size=40), signature=st.binary(max_size=80) | st.binary(min_size=64, max_size=64))
def test_random_bytes_are_no_signature_and_do_not_raise(suite: Suite, message: bytes, signature: bytes) -> None:
    assert PrivateKey.load(suite, b"\1" * 32).public.verify(message, signature) is False


@pytest.mark.parametrize("suite", SUITES)
@bounded
@given(secret=st.binary(min_size=32, max_size=32), message=st.binary(max_size=40))
def test_a_key_verifies_its_signatures_and_no_other_messages(suite: Suite, secret: bytes, message: bytes) -> None:
    try:
        key = PrivateKey.load(suite, secret)
    except ValueError:
        return
    signature = key.sign(message)
    assert PublicKey.parse(bytes(key.public.wire)).verify(message, signature)
    assert not key.public.verify(message + b"\0", signature)


@bounded
@given(st.none() | st.text(max_size=90) | st.builds("Bearer ".__add__, st.text(st.characters(), max_size=80)))
def test_any_header_is_unauthorized(authorization: str | None) -> None:
    ring = KeyRing(bytes(32), preset=["a preset key of 32 characters, or more"], revoked=["00000000"])
    with pytest.raises(Unauthorized):
        assert isinstance(ring.authenticate(authorization), Caller)


@bounded
@given(st.text(max_size=200) | st.lists(st.sampled_from(["zoo", "vote", "abandon", "x"]), max_size=25).map(" ".join))
def test_any_words_are_an_identity_or_an_invalid_mnemonic(words: str) -> None:
    with contextlib.suppress(InvalidMnemonic):
        DerivedSecrets.from_mnemonic(words)
