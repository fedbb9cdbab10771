"""What a 400 says about a message: one sentence for each form of a field, without regular expressions or values."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from msgspec import inspect

from sigil.protocol.errors import InvalidRequest
from sigil.protocol.messages import approvals, attestation, challenges, decoding, enrolment, first_boot, relay

REQUESTS: tuple[type, ...] = (
    challenges.CreateChallenge,
    challenges.Respond,
    challenges.Pending,
    approvals.CreateMpa,
    approvals.RespondMpa,
    enrolment.BeginEnrolment,
    enrolment.ClaimEnrolment,
    enrolment.CompleteEnrolment,
    enrolment.ConfirmEnrolment,
    enrolment.WaitForEnrolment,
    attestation.AttestDevice,
    first_boot.GivenWords,
    first_boot.Nothing,
    relay.RegisterDevice,
    relay.UnregisterDevice,
    relay.RegisterServer,
    relay.PushRequest,
    relay.OutcomesRequest,
    relay.AuthResponse,
    relay.Pong,
    relay.Ack,
)
ACTION = {"type": "login", "description": "Sign in"}
CHALLENGE = {"device_public_key": "k", "action": ACTION}
MPA = {"action": ACTION, "required": 1, "groups": [{"members": [{"device_public_key": "k"}]}]}
RESPOND = {"challenge_id": "c", "signature": "s"}
CLAIM = {"token": "7K3MQ9XP2RTB", "claim_id": "ab" * 16}
ATTEST: dict[str, Any] = {
    "device_public_key": "k",
    "challenge_id": "c",
    "attestation": {"kind": "yubikey-piv", "x5c": ["AAAA", "AAAA"]},
    "signature": "s",
}
PUSH = {"push_key": "k", "fingerprint": "f", "payload": {}}
VALUES = [None, True, 7, 10**30, -1, 0.5, "", "\n", "sëcret value", "x" * 5000, [], [[]], {}, {"a": 1}]


def _error(kind: Any, value: Any) -> InvalidRequest:
    body = value if isinstance(value, bytes) else msgspec.json.encode(value)
    with pytest.raises(InvalidRequest) as raised:
        decoding.decode_request(body, kind)
    return raised.value


@pytest.mark.parametrize(
    ("kind", "value", "path", "sentence"),
    [
        (challenges.CreateChallenge, [], "$", "The body must be an object."),
        (challenges.CreateChallenge, None, "$", "The body must be an object."),
        (approvals.CreateMpa, MPA | {"groups": [None]}, "$.groups[0]", "groups[0] must be an object."),
        (challenges.CreateChallenge, {"action": ACTION}, "$.device_public_key", "device_public_key is missing."),
        (challenges.CreateChallenge, CHALLENGE | {"device_public_key": None}, "$.device_public_key",
         "device_public_key is missing."),
        (challenges.CreateChallenge, CHALLENGE | {"device_public_key": 1}, "$.device_public_key",
         "device_public_key must be a string."),
        (challenges.CreateChallenge, CHALLENGE | {"action": ACTION | {"type": "Log in"}}, "$.action.type",
         "action.type must be 1 to 64 characters of a-z, 0-9, underscore, dot, colon and hyphen."),
        (challenges.CreateChallenge, CHALLENGE | {"action": ACTION | {"description": ""}}, "$.action.description",
         "action.description must be a string of 1 to 256 characters."),
        (challenges.CreateChallenge, CHALLENGE | {"action": ACTION | {"params": []}}, "$.action.params",
         "action.params must be an object."),
        (challenges.CreateChallenge, CHALLENGE | {"action": ACTION | {"more": 1}}, "$.action.more",
         "action.more is unknown. action has: type, description, params."),
        (challenges.CreateChallenge, CHALLENGE | {"expires_in_seconds": 29}, "$.expires_in_seconds",
         "expires_in_seconds must be a whole number from 30 to 300."),
        (challenges.CreateChallenge, CHALLENGE | {"expires_in_seconds": "60"}, "$.expires_in_seconds",
         "expires_in_seconds must be a whole number from 30 to 300."),
        (challenges.CreateChallenge, CHALLENGE | {"number_matching": "yes"}, "$.number_matching",
         "number_matching must be true or false."),
        (challenges.Respond, RESPOND | {"decision": "yes"}, "$.decision", 'decision must be "approved" or "rejected".'),
        (challenges.Respond, RESPOND | {"match_code": "7"}, "$.match_code", "match_code must be two digits."),
        (challenges.Respond, RESPOND | {"code": "07"}, "$.code",
         "code is unknown. The body has: challenge_id, signature, device_public_key, fingerprint, decision, "
         "match_code, timestamp, reason, device_credential."),
        (approvals.CreateMpa, MPA | {"groups": [{"members": []}]}, "$.groups[0].members",
         "groups[0].members must be a list of 1 to 50 items."),
        (approvals.CreateMpa, MPA | {"request_id": "a/b"}, "$.request_id",
         "request_id must be 1 to 128 ASCII letters, digits, dots, underscores, colons and hyphens, and not one or two "
         "dots alone."),
        (relay.PushRequest, {"pushes": [PUSH | {"push_key": "a b"}]}, "$.pushes[0].push_key",
         "pushes[0].push_key must be 1 to 200 visible ASCII characters."),
        (enrolment.BeginEnrolment, {"account": "a" * 129}, "$.account",
         "account must be a string of 1 to 128 characters."),
        (enrolment.BeginEnrolment, {"account": "a", "min_level": "high"}, "$.min_level",
         'min_level must be "emulator" or "hardware" or "secure_element".'),
        (enrolment.ClaimEnrolment, CLAIM | {"token": "7k3m-q9xp-2rtb"}, "$.token",
         "token must be 12 characters of 0-9 and upper-case A-Z without I, L, O and U."),
        (enrolment.ClaimEnrolment, CLAIM | {"claim_id": "AB" * 16}, "$.claim_id",
         "claim_id must be 32 lower-case hex characters, of 16 random bytes."),
        (enrolment.ConfirmEnrolment, {"code": "12345"}, "$.code", "code must be six digits."),
        (enrolment.WaitForEnrolment, {"enrolment_id": "e", "claim_id": "ab" * 16, "wait": 26}, "$.wait",
         "wait must be a whole number from 0 to 25."),
        (attestation.AttestDevice, ATTEST | {"attestation": {"kind": "tpm"}}, "$.attestation.kind",
         'attestation.kind must be "apple-appattest" or "apple-assertion" or "android-key" or "yubikey-piv".'),
        (attestation.AttestDevice, ATTEST | {"attestation": {"kind": "yubikey-piv", "x5c": ["AAAA"]}},
         "$.attestation.x5c", "attestation.x5c must be a list of 2 to 10 items."),
        (attestation.AttestDevice, ATTEST | {"attestation": {"kind": "yubikey-piv", "x5c": ["AAAA", "A" * 10928]}},
         "$.attestation.x5c[1]", "attestation.x5c[1] must be base64 of at most 8192 bytes."),
        (attestation.AttestDevice, ATTEST | {"attestation": {"kind": "android-key", "x5c": ["AAAA", "AAAA"]}},
         "$.attestation.witness", "attestation.witness is missing."),
        (attestation.AttestDevice, ATTEST | {"attestation": ATTEST["attestation"] | {"chain": []}},
         "$.attestation.chain",
         "attestation.chain is unknown. attestation has: kind, object, assertion, x5c, witness."),
        (attestation.AttestDevice, ATTEST | {"device_credential": "a" * 4097}, "$.device_credential",
         "device_credential must be a string of 1 to 4096 characters."),
        (relay.AuthResponse | relay.Pong, {"type": "x"}, "$.type", 'type must be "auth_response" or "pong".'),
    ],
)  # fmt: skip
def test_a_mistake_is_one_sentence_with_the_name_and_what_it_must_be(
    kind: Any, value: Any, path: str, sentence: str
) -> None:
    error = _error(kind, value)
    assert (error.message, error.details) == (sentence, {"path": path})


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b"", "The body is empty: send a JSON object."),
        (b" \n", "The body is empty: send a JSON object."),
        (b"\xef\xbb\xbf{}", "The body begins with a byte order mark: send JSON as UTF-8 without one."),
        ("{}".encode("utf-16"), "The body begins with a byte order mark: send JSON as UTF-8 without one."),
        (b'{"a":"\xff"}', "The body is not UTF-8."),
        (b'{"a":1,}', "The body is not JSON: it is wrong at character 8."),
        (b"{'a':1}", "The body is not JSON: it is wrong at character 2."),
        (b'{"a":1,"a":1}', "The body is not strict JSON: two members of one object have the same name."),
        (b'{"a":NaN}', "The body is not strict JSON: NaN is no number of JSON."),
        (b'{"a":"\\ud800"}', "The body is not strict JSON: a string contains half of a surrogate pair."),
        (b"[" * 60_000, "The body is nested too deep."),
    ],
)
def test_a_body_that_is_no_strict_json_is_one_sentence(body: bytes, sentence: str) -> None:
    error = _error(first_boot.Nothing, body)
    assert (error.message, error.details) == (sentence, {"path": "$"})


def _fields(found: inspect.Type) -> Iterator[tuple[str, inspect.Type]]:
    if isinstance(found, inspect.StructType):
        for field in found.fields:
            yield field.encode_name, field.type
            yield from _fields(field.type)
    elif isinstance(found, inspect.UnionType):
        for part in found.types:
            yield from _fields(part)
    elif isinstance(found, inspect.CollectionType):
        yield from _fields(found.item_type)


@pytest.mark.parametrize("kind", REQUESTS)
def test_every_field_of_every_request_has_a_sentence(kind: type) -> None:
    """A wrong value of any form gets no wording of msgspec, no regular expression and no part of the value."""
    for name, _ in [("", None), *_fields(inspect.type_info(kind))]:
        for value in VALUES:
            body = {"type": kind.__name__.lower(), name: value} if name else value
            try:
                decoding.decode_request(msgspec.json.encode(body), kind)
            except InvalidRequest as error:
                message = error.message
                assert message.endswith("."), message
                assert not any(mark in message for mark in ("`", "regex", "Expected", "Invalid", "field", "documented"))
                assert not any(text in message for text in ("^", "\\x", "(?", "sëcret", "xxxxx", "NoneType"))


def test_every_pattern_has_a_description_for_people() -> None:
    """The sentence would be `must be a string` otherwise."""
    patterned = 0
    for kind in REQUESTS:
        for name, found in _fields(inspect.type_info(kind)):
            for part in found.types if isinstance(found, inspect.UnionType) else [found]:
                plain = part.type if isinstance(part, inspect.Metadata) else part
                if isinstance(plain, inspect.StrType) and plain.pattern:
                    patterned += 1
                    assert isinstance(part, inspect.Metadata), name
                    assert (part.extra_json_schema or {}).get("description"), name
    assert patterned > 5
