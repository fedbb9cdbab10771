"""What may be asked for, and its canonical bytes (docs/protocol.md, 2.4)."""

from __future__ import annotations

import json

import pytest

from sigil.protocol.action import Action, action_jcs
from sigil.protocol.errors import InvalidRequest
from sigil.protocol.messages import CreateChallenge, decode_request

from .vectors import Case, mismatches


def _jcs_of(action: bytes) -> bytes:
    """The action member of a request, through all that a request goes through."""
    return action_jcs(decode_request(b'{"device_public_key":"k","action":' + action + b"}", CreateChallenge).action)


def _refusal(action: bytes) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as refused:
        _jcs_of(action)
    return refused.value


def _outcome(case: Case) -> Case:
    action = case["action"].encode() if "action" in case else bytes.fromhex(case["action_hex"])
    try:
        return {"expect": {"jcs": _jcs_of(action).decode()}}
    except InvalidRequest as error:
        return {"expect": error.code, **error.details}


def test_every_action_has_its_canonical_bytes_or_is_refused_by_path() -> None:
    assert mismatches("actions.json", _outcome) == {}


@pytest.mark.parametrize("levels", [200, 1_000, 10_000, 30_000])
@pytest.mark.parametrize("closed", [True, False])
def test_very_deep_params_are_refused(levels: int, closed: bool) -> None:
    for opening, closing in ((b"[", b"]"), (b'{"a":', b"}")):
        for inside in (b"", b"1") if opening == b"[" else (b"1",):
            value = opening * levels + inside + (closing * levels if closed else b"")
            for params in (b'{"x":' + value + b"}", b'{"y":"-0","x":' + value + b"}", value):
                refused = _refusal(b'{"type":"a","description":"d","params":' + params + b"}")
                assert refused.details["path"] in ("$", "$.action.params")


@pytest.mark.parametrize("member", ["type", "description", "more"])
def test_very_deep_nesting_in_any_member_is_refused(member: str) -> None:
    for value in (b"[" * 10_000, b"[" * 10_000 + b"]" * 10_000, b'{"a":' * 10_000 + b"1" + b"}" * 10_000):
        assert _refusal(b'{"type":"a","description":"d","%s":%s}' % (member.encode(), value))


def test_a_refusal_names_the_place_that_the_caller_gives() -> None:
    action = decode_request(b'{"type":"a","description":"\\u202e","params":{}}', Action)
    with pytest.raises(InvalidRequest) as refused:
        action_jcs(action, "$.elsewhere")
    assert refused.value.details == {"path": "$.elsewhere.description"}


def test_two_spellings_of_one_action_have_the_same_bytes() -> None:
    plain = b'{"type":"a","description":"Zo\xc3\xab","params":{"b":[1,true,null],"a":"/"}}'
    params = b'{ "a" : "\\/" , "b" : [ 1 , true , null ] }'
    other = b'\n{ "params" : %s , "description" : "Zo\\u00EB", "type" : "\\u0061" }' % params
    assert _jcs_of(plain) == _jcs_of(other)


def test_canonical_bytes_are_read_to_the_same_bytes_again() -> None:
    once = _jcs_of(
        b'{"type":"a","description":"\xe2\x82\xac","params":{"\xf0\x9f\x98\x80":-1,"\xef\xac\xb3":"\\u0000"}}'
    )
    assert _jcs_of(once) == once
    assert json.loads(once)["params"] == {"\U0001f600": -1, "\ufb33": "\0"}


def test_bodies_of_the_greatest_size_are_refused_or_read() -> None:
    """64 KiB of the least pleasant kinds: what is refused is refused by its field."""
    many = b",".join(b'"%d":0' % number for number in range(6000))
    assert _refusal(b'{"type":"a","description":"d","params":{%s}}' % many).details == {"path": "$.action"}
    assert _refusal(b'{"type":"a","description":"d","params":{"x":[%s0]}}' % (b"0," * 30_000))
    assert _refusal(b'{"type":"a","description":"%s"}' % (b"d" * 60_000)).details == {"path": "$.action.description"}
    assert _jcs_of(b'{"type":"a","description":"d","params":{"x":[%s]}}' % b",".join([b"-1"] * 600))
