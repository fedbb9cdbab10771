"""Actions are checked against the rules before a request is sent."""

from __future__ import annotations

import datetime
from decimal import Decimal
from typing import Any

import pytest

from sigil.protocol.encoding.canonical import canonical
from sigil.sdk import Action, InvalidRequest
from sigil.sdk.request_bodies import action_bytes, challenge_body

GOOD = {"type": "payment", "description": "Pay 12 € to Zoë", "params": {"b": [1, True, None, "x"], "a": {}}}


def test_an_action_and_a_mapping_are_the_same_bytes() -> None:
    assert action_bytes(Action(**GOOD)) == action_bytes(GOOD) == canonical(GOOD)
    assert action_bytes(Action("a", "b")) == b'{"description":"b","type":"a"}'


@pytest.mark.parametrize(
    ("changed", "path"),
    [
        ({"type": "Payment"}, "$.action.type"),
        ({"type": 1}, "$.action.type"),
        ({"description": ""}, "$.action.description"),
        ({"description": "x" * 257}, "$.action.description"),
        ({"description": "left\u202eright"}, "$.action.description"),
        ({"description": "\u3164"}, "$.action.description"),
        ({"params": {"x": ["two\nlines"]}}, "$.action.params"),
        ({"params": {"x\x1b[2J": 1}}, "$.action.params"),
        ({"colour": "red"}, "$.action.colour"),
        ({"params": [1]}, "$.action.params"),
        ({"params": {"x": 1.0}}, "$.action.params"),
        ({"params": {"x": 2**53}}, "$.action.params"),
        ({"params": {"x": float("nan")}}, "$.action.params"),
        ({"params": {"x": "y" * 2048}}, "$.action"),
        ({"params": {"x": Decimal("1.5")}}, "$.action.params"),
        ({"params": {"x": datetime.date(2026, 1, 1)}}, "$.action.params"),
        ({"params": {"x": (1, 2)}}, "$.action.params"),
        ({"params": {"x": b"bytes"}}, "$.action.params"),
        ({"params": {1: "x"}}, "$.action.params"),
        ({"params": {"x": object()}}, "$.action"),
        ({"params": {"x": "\ud800"}}, "$.action"),
    ],
)
def test_an_action_that_may_not_be_signed_is_rejected_with_the_member(changed: dict[str, Any], path: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        action_bytes({**GOOD, **changed})
    assert (refused.value.path, refused.value.status) == (path, None)


def test_an_action_without_a_type_is_rejected() -> None:
    with pytest.raises(InvalidRequest) as refused:
        action_bytes({"description": "x"})
    assert refused.value.path == "$.action.type"


def test_a_body_that_json_cannot_represent_is_rejected() -> None:
    with pytest.raises(InvalidRequest):
        challenge_body("\ud800", GOOD)
    with pytest.raises(InvalidRequest):
        challenge_body("AAAA", GOOD, fingerprint=object())
