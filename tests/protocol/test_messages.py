"""Parsing of requests into their types (docs/protocol.md, introduction and 5.2)."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from sigil.protocol.errors import InvalidRequest
from sigil.protocol.messages import challenges as messages
from sigil.protocol.messages import decoding, relay
from sigil.protocol.messages import server as server_messages

from .vectors import Case, mismatches

KINDS: dict[str, Any] = {kind.__name__: kind for kind in (messages.CreateChallenge, messages.Respond, messages.Pending)}
LEAST = {
    "CreateChallenge": b'{"device_public_key":"k","action":{"type":"a","description":"d"}',
    "Respond": b'{"challenge_id":"c","signature":"s"',
    "Pending": b'{"device_public_key":"k","timestamp":"t","signature":"s"',
}


def _error_of(body: bytes, kind: str) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as raised:
        decoding.decode_request(body, KINDS[kind])
    return raised.value


def _said(message: Any) -> dict[str, Any]:
    """The members that a message has, with null for absent ones left out."""
    fields: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(message))
    if "action" in fields:
        fields["action"] = {name: value for name, value in fields["action"].items() if value is not None}
    return {name: value for name, value in fields.items() if value is not None}


def _outcome(case: Case) -> Case:
    body = case["body"].encode() if "body" in case else bytes.fromhex(case["body_hex"])
    try:
        return {"expect": _said(decoding.decode_request(body, KINDS[case["message"]]))}
    except InvalidRequest as error:
        return {"expect": error.code, **error.details}


def test_every_body_is_parsed_or_rejected_with_its_path() -> None:
    assert mismatches("messages.json", _outcome) == {}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("levels", [1_000, 10_000, 60_000])
def test_very_deep_nesting_is_rejected_in_known_and_unknown_members(kind: str, levels: int) -> None:
    for member in ("signature", "device_public_key", "timestamp", "action", "x-more"):
        for opening, closing in ((b"[", b"]"), (b'{"a":', b"}")):
            for value in (opening * levels, opening * levels + b"1" + closing * levels):
                _error_of(LEAST[kind] + b',"%s":%s}' % (member.encode(), value), kind)


@pytest.mark.parametrize("kind", KINDS)
def test_a_body_of_brackets_only_is_rejected(kind: str) -> None:
    for body in (b"[" * 60_000, b'{"a":' * 10_000, b"[" * 30_000 + b"]" * 30_000):
        # An unknown member is rejected before it is parsed.
        assert _error_of(body, kind).details["path"] in ("$", "$.a")


@pytest.mark.parametrize("kind", ["Respond", "Pending"])
@pytest.mark.parametrize("name", ["x" * 60_000, "€" * 20_000, "`" * 60_000, "a` - at `$.b", " - at `$" + "x" * 9_000])
def test_an_error_quotes_a_bounded_part_of_a_name(kind: str, name: str) -> None:
    raised = _error_of(LEAST[kind] + b"," + msgspec.json.encode(name) + b":1}", kind)
    assert len(raised.message) <= 220
    assert len(raised.details["path"]) <= 200
    assert raised.details["path"].startswith("$")


def test_an_error_quotes_a_bounded_part_of_a_value() -> None:
    for member in ("decision", "reason"):
        value = b"y" * 60_000
        raised = _error_of(LEAST["Respond"] + b',"%s":"%s"}' % (member.encode(), value), "Respond")
        assert raised.details == {"path": f"$.{member}"}
        assert len(raised.message) <= 201


def test_an_error_does_not_quote_a_signature_or_a_key() -> None:
    secret = b"c2VjcmV0IHNpZ25hdHVyZQ=="
    for member in (b"signature", b"device_public_key", b"match_code"):
        for value in (b'["%s"]' % secret, b'{"%s":1}' % secret, b'"%s' % secret, b'"%s\xff"' % secret):
            raised = _error_of(b'{"challenge_id":"c","%s":%s}' % (member, value), "Respond")
            assert secret.decode() not in raised.message + repr(raised.details)


@pytest.mark.parametrize(
    "member", ["device_public_key", "fingerprint", "expires_in_seconds", "number_matching", "action"]
)
def test_the_error_names_the_wrong_member(member: str) -> None:
    body = msgspec.json.decode(LEAST["CreateChallenge"] + b"}") | {member: [[]]}
    raised = _error_of(msgspec.json.encode(body), "CreateChallenge")
    assert raised.details == {"path": f"$.{member}"}
    assert raised.message


def test_parsed_messages_are_immutable() -> None:
    answer = decoding.decode_request(LEAST["Respond"] + b"}", messages.Respond)
    with pytest.raises(AttributeError):
        answer.decision = "approved"  # type: ignore[misc]


def test_members_without_a_value_are_left_out_of_answers() -> None:
    push = messages.PushStatus(status="queued")
    assert msgspec.json.encode(push) == b'{"status":"queued"}'
    error = server_messages.ErrorAnswer(server_messages.ErrorBody("NOT_FOUND", "m"))
    assert msgspec.json.decode(msgspec.json.encode(error)) == {"error": {"code": "NOT_FOUND", "message": "m"}}


def test_a_payload_has_its_type_and_number_matching() -> None:
    payload = messages.ChallengePayload("c", "s", "b", "n", "f", msgspec.Raw(b"{}"), "sig", "t", number_matching=False)
    encoded = msgspec.json.decode(msgspec.json.encode(payload))
    assert encoded.pop("type") == "challenge"
    assert set(encoded) == {
        *("challenge_id", "server_id", "challenge_bytes", "nonce", "fingerprint"),
        *("action", "server_signature", "expires_at", "number_matching"),
    }
    assert encoded["number_matching"] is False


@pytest.mark.parametrize("kind", [relay.PushToken, relay.PushKey, relay.CollapseId, relay.PushOwner])
def test_a_newline_behind_a_name_of_a_push_is_rejected(kind: Any) -> None:
    """`$` of a pattern matches before it, too; providers take these values in a header or in a path."""
    assert msgspec.json.decode(b'"abc"', type=kind) == "abc"
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(b'"abc\\n"', type=kind)
