"""The rules of an action, and its canonical bytes (docs/protocol.md, 2.4)."""

from __future__ import annotations

import json

import pytest

from sigil.protocol.action import Action, action_jcs
from sigil.protocol.errors import InvalidRequest
from sigil.protocol.messages.challenges import CreateChallenge
from sigil.protocol.messages.decoding import decode_request

from .vectors import Case, mismatches


def _jcs_of(action: bytes) -> bytes:
    """The canonical bytes of an action, parsed as part of a request."""
    return action_jcs(decode_request(b'{"device_public_key":"k","action":' + action + b"}", CreateChallenge).action)


def _error_of(action: bytes) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as raised:
        _jcs_of(action)
    return raised.value


def _outcome(case: Case) -> Case:
    action = case["action"].encode() if "action" in case else bytes.fromhex(case["action_hex"])
    try:
        return {"expect": {"jcs": _jcs_of(action).decode()}}
    except InvalidRequest as error:
        return {"expect": error.code, **error.details}


def test_every_action_has_its_canonical_bytes_or_an_error_with_its_path() -> None:
    assert mismatches("actions.json", _outcome) == {}


@pytest.mark.parametrize("levels", [200, 1_000, 10_000, 30_000])
@pytest.mark.parametrize("closed", [True, False])
def test_very_deep_params_are_rejected(levels: int, closed: bool) -> None:
    for opening, closing in ((b"[", b"]"), (b'{"a":', b"}")):
        for inside in (b"", b"1") if opening == b"[" else (b"1",):
            value = opening * levels + inside + (closing * levels if closed else b"")
            for params in (b'{"x":' + value + b"}", b'{"y":"-0","x":' + value + b"}", value):
                raised = _error_of(b'{"type":"a","description":"d","params":' + params + b"}")
                assert raised.details["path"] in ("$", "$.action.params")


@pytest.mark.parametrize("member", ["type", "description", "more"])
def test_very_deep_nesting_in_any_member_is_rejected(member: str) -> None:
    for value in (b"[" * 10_000, b"[" * 10_000 + b"]" * 10_000, b'{"a":' * 10_000 + b"1" + b"}" * 10_000):
        assert _error_of(b'{"type":"a","description":"d","%s":%s}' % (member.encode(), value))


def test_an_error_has_the_path_that_the_caller_gives() -> None:
    action = decode_request(b'{"type":"a","description":"\\u202e","params":{}}', Action)
    with pytest.raises(InvalidRequest) as raised:
        action_jcs(action, "$.elsewhere")
    assert raised.value.details == {"path": "$.elsewhere.description"}


def test_two_spellings_of_one_action_have_the_same_bytes() -> None:
    plain = b'{"type":"a","description":"Zo\xc3\xab","params":{"b":[1,true,null],"a":"/"}}'
    params = b'{ "a" : "\\/" , "b" : [ 1 , true , null ] }'
    other = b'\n{ "params" : %s , "description" : "Zo\\u00EB", "type" : "\\u0061" }' % params
    assert _jcs_of(plain) == _jcs_of(other)


def test_parsed_canonical_bytes_have_the_same_bytes_again() -> None:
    once = _jcs_of(
        b'{"type":"a","description":"\xe2\x82\xac","params":{"\xf0\x9f\x98\x80":-1,"\xef\xac\xb3":"\\u0022"}}'
    )
    assert _jcs_of(once) == once
    assert json.loads(once)["params"] == {"\U0001f600": -1, "\ufb33": '"'}


def test_bodies_of_the_maximal_size_are_parsed_or_rejected() -> None:
    """64 KiB of the worst kinds: an error names its field."""
    many = b",".join(b'"%d":0' % number for number in range(6000))
    assert _error_of(b'{"type":"a","description":"d","params":{%s}}' % many).details == {"path": "$.action"}
    assert _error_of(b'{"type":"a","description":"d","params":{"x":[%s0]}}' % (b"0," * 30_000))
    assert _error_of(b'{"type":"a","description":"%s"}' % (b"d" * 60_000)).details == {"path": "$.action.description"}
    assert _jcs_of(b'{"type":"a","description":"d","params":{"x":[%s]}}' % b",".join([b"-1"] * 600))
