"""base64, hex and times have one accepted spelling each (docs/protocol.md, introduction)."""

from __future__ import annotations

from typing import Any

import pytest

from sigil.protocol.encoding.text import decode_base64, decode_hex, encode_base64, format_time, parse_time
from sigil.protocol.errors import InvalidRequest

from .vectors import Case, cases, mismatches

PATH = "$.some.field"


def _read(case: Case) -> Any:
    text, length = case["text"], case["length"]
    if case["kind"] == "base64":
        return decode_base64(text, PATH, length=length).hex()
    if case["kind"] == "hex":
        return decode_hex(text, PATH, length=length).hex()
    return parse_time(text, PATH)


def _outcome(case: Case) -> Case:
    try:
        return {"expect": _read(case)}
    except InvalidRequest as error:
        return {"expect": error.code} if error.details == {"path": PATH} else {"named": error.details}


def test_every_spelling_is_accepted_or_rejected_with_its_path() -> None:
    assert mismatches("spellings.json", _outcome) == {}


def test_an_error_does_not_quote_the_value() -> None:
    text = "c2VjcmV0IHNpZ25hdHVyZQ"
    for read in (decode_base64, parse_time, lambda text, path: decode_hex(text, path, length=11)):
        with pytest.raises(InvalidRequest) as raised:
            read(text, PATH)
        assert text not in raised.value.message + repr(raised.value.details)


def test_an_accepted_value_is_encoded_the_same_again() -> None:
    good = [case for case in cases("spellings.json") if case["expect"] != "INVALID_REQUEST"]
    assert {case["kind"] for case in good} == {"base64", "hex", "time"}
    for case in good:
        value = _read(case)
        if case["kind"] == "base64":
            assert encode_base64(bytes.fromhex(value)) == case["text"]
        elif case["kind"] == "time":
            assert format_time(value) == case["text"]
        else:
            assert value == case["text"]


def test_a_lone_surrogate_is_an_invalid_request() -> None:
    for read in (decode_base64, parse_time, lambda text, path: decode_hex(text, path, length=1)):
        for text in ("\ud800", "A\ud800", "\ud83d\ude00"):
            with pytest.raises(InvalidRequest):
                read(text, PATH)
