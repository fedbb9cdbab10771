"""Valid and invalid actions, from the integrator's request to the signed bytes."""

from __future__ import annotations

import json
from typing import Any

import pytest
import rfc8785

from .integrator import Integrator, approve, assert_error, assert_ok
from .wire import Device, signed_message, unb64, verifies

LIMIT = 2**53 - 1


def action_with(**changes: Any) -> dict[str, Any]:
    return {"type": "step_up", "description": "Sign in", **changes}


def nested_object(levels: int) -> dict[str, Any]:
    """`levels` objects, one inside the other, the outermost included."""
    value: dict[str, Any] = {}
    for _ in range(levels - 1):
        value = {"a": value}
    return value


def action_of_size(octets: int) -> dict[str, Any]:
    """An action whose canonical form has exactly this many bytes."""
    action = action_with(params={"fill": ""})
    action["params"]["fill"] = "x" * (octets - len(rfc8785.dumps(action)))
    return action


def post_raw_action(owner: Integrator, device: Device, action: str) -> Any:
    return owner.post(f'{{"device_public_key":"{device.public}","action":{action}}}'.encode())


VALID: dict[str, dict[str, Any]] = {
    "no params": action_with(),
    "empty params": action_with(params={}),
    "a type of one character": action_with(type="a"),
    "a type of 64 characters": action_with(type="a" * 64),
    "every character a type may have": action_with(type="abcdefghijklmnopqrstuvwxyz0123456789_.:-"),
    "a description of one character": action_with(description="x"),
    "a description of 256 characters": action_with(description="x" * 256),
    "a description of 256 astral characters": action_with(description="🦊" * 256),
    "a description in many scripts": action_with(description="Zoë 支付 оплата دفع é ﬁ \u00a0\u3000"),
    "a description with quotes and backslashes": action_with(description='"\\/<>&'),
    "the largest integers": action_with(params={"a": LIMIT, "b": -LIMIT}),
    "null, true, false and zero": action_with(params={"a": None, "b": True, "c": False, "d": 0}),
    "an empty list, object and string": action_with(params={"a": [], "b": {}, "c": "", "": "empty name"}),
    "keys that UTF-16 sorts otherwise than UTF-8": action_with(params={"\ufb33": 1, "😀": 2, "é": 3, "A": 4, "a": 5}),
    "16 levels of params": action_with(params=nested_object(16)),
    "2048 bytes": action_of_size(2048),
}


@pytest.mark.parametrize("kind", VALID)
def test_a_valid_action_is_signed_and_returned_unchanged(owner: Integrator, device: Device, kind: str) -> None:
    action = VALID[kind]
    challenge = owner.challenge(device, action)
    message = signed_message(challenge["challenge_bytes"], action)
    assert verifies(owner.server.identity.keys["ES256"].public, message, unb64(challenge["server_signature"]))
    assert owner.state(challenge["challenge_id"])["action"] == action
    approve(owner.server, device, challenge, action)


def test_null_params_count_as_absent(owner: Integrator, device: Device) -> None:
    challenge = owner.challenge(device, action_with(params=None))
    assert owner.state(challenge["challenge_id"])["action"] == action_with()
    approve(owner.server, device, challenge, action_with())


def test_escapes_and_member_order_of_the_request_do_not_matter(owner: Integrator, device: Device) -> None:
    text = '{ "params" : {"b":1, "a":"\\u00e9\\ud83d\\ude00\\/"}, "description":"\\u0053ign in", "type":"step_up" }'
    challenge = assert_ok(post_raw_action(owner, device, text), 201)
    action = action_with(params={"a": "é😀/", "b": 1})
    assert owner.state(challenge["challenge_id"])["action"] == action
    approve(owner.server, device, challenge, action)


INVALID: dict[str, tuple[Any, str]] = {
    "another member": (action_with(user_id="alice"), "action"),
    "no type": ({"description": "x"}, "action"),
    "no description": ({"type": "x"}, "action"),
    "a null type": (action_with(type=None), "type"),
    "a null description": (action_with(description=None), "description"),
    "an empty type": (action_with(type=""), "type"),
    "a type of 65 characters": (action_with(type="a" * 65), "type"),
    "a type in upper case": (action_with(type="Step"), "type"),
    "a type with a blank": (action_with(type="step up"), "type"),
    "a type with a line feed at its end": (action_with(type="step\n"), "type"),
    "a type with a letter beyond ASCII": (action_with(type="stép"), "type"),
    "a type with a digit beyond ASCII": (action_with(type="step٣"), "type"),
    "a number as type": (action_with(type=7), "type"),
    "an empty description": (action_with(description=""), "description"),
    "a description of 257 characters": (action_with(description="x" * 257), "description"),
    "a number as description": (action_with(description=7), "description"),
    "a list as params": (action_with(params=[1]), "params"),
    "a string as params": (action_with(params="x"), "params"),
    "an integer too large": (action_with(params={"a": LIMIT + 1}), "params"),
    "an integer too small": (action_with(params={"a": -LIMIT - 1}), "params"),
    "an integer beyond 64 bits": (action_with(params={"a": 2**64}), "params"),
    "a huge integer": (action_with(params={"a": 10**400}), "params"),
    "a fraction": (action_with(params={"a": 1.5}), "params"),
    "a fraction deep inside": (action_with(params={"a": [{"b": [0.5]}]}), "params"),
    "17 levels of params": (action_with(params=nested_object(17)), "params"),
    "40 levels of lists": (action_with(params={"a": json.loads("[" * 40 + "]" * 40)}), "params"),
    "2049 bytes": (action_of_size(2049), "action"),
    "20000 bytes": (action_of_size(20000), "action"),
}


@pytest.mark.parametrize("kind", INVALID)
def test_an_invalid_action_is_rejected_and_its_path_named(owner: Integrator, device: Device, kind: str) -> None:
    action, path = INVALID[kind]
    assert_error(owner.create(device, action), 400, "INVALID_REQUEST", path)


HIDDEN = (
    *(0, 9, 10, 13, 0x1B, 0x1F, 0x7F, 0x80, 0x9F, 0xAD, 0x34F, 0x378, 0x61C, 0x115F, 0x1160, 0x180E, 0x200B, 0x200C),
    *(0x200D, 0x200F, 0x2028, 0x2029, 0x202A, 0x202E, 0x2060, 0x2065, 0x2066, 0x2069, 0x206A, 0x206F, 0x3164, 0xE000),
    *(0xFDD0, 0xFE0F, 0xFEFF, 0xFFA0, 0xFFFC, 0xFFFF, 0x1D159, 0xE0001, 0xE0041, 0xE0100, 0xF0000, 0x10FFFF),
)


@pytest.mark.parametrize("where", ["description", "a text in params", "a name in params"])
def test_hidden_characters_are_rejected_wherever_a_person_would_see_them(
    owner: Integrator, device: Device, where: str
) -> None:
    for text in (*(f"a{chr(point)}b" for point in HIDDEN), " ", "\u3000\u2800", "e" + "\u0301" * 60, "\u0301"):
        action = {
            "description": action_with(description=text),
            "a text in params": action_with(params={"a": [text]}),
            "a name in params": action_with(params={"a": {text: 1}}),
        }[where]
        answer = owner.create(device, action)
        assert answer.status_code == 400, ascii(text)
        assert_error(answer, 400, "INVALID_REQUEST", "description" if where == "description" else "params")


@pytest.mark.parametrize(
    "number", ["1.0", "1e3", "1E3", "1e-3", "-0", "-0.0", "0.0", "1e400", "NaN", "Infinity", "-Infinity", "01", "+1"]
)
def test_a_number_other_than_a_plain_integer_is_rejected(owner: Integrator, device: Device, number: str) -> None:
    action = '{"type":"t","description":"d","params":{"a":' + number + "}}"
    assert_error(post_raw_action(owner, device, action), 400, "INVALID_REQUEST")


@pytest.mark.parametrize("text", ['"\\ud800"', '"\\udc00\\ud800"', '"a\\ud83d"'])
def test_lone_surrogates_are_rejected_in_values_and_in_names(owner: Integrator, device: Device, text: str) -> None:
    for params in (f'{{"a":{text}}}', f"{{{text}:1}}", f'{{"a":[{text}]}}'):
        action = f'{{"type":"t","description":"d","params":{params}}}'
        assert_error(post_raw_action(owner, device, action), 400, "INVALID_REQUEST")
    assert_error(post_raw_action(owner, device, f'{{"type":"t","description":{text}}}'), 400, "INVALID_REQUEST")


@pytest.mark.parametrize(
    "action",
    [
        '{"type":"t","type":"u","description":"d"}',
        '{"type":"t","description":"d","params":{"a":1,"a":2}}',
        '{"type":"t","description":"d","params":{"a":[{"b":1,"\\u0062":2}]}}',
    ],
)
def test_a_duplicate_member_is_rejected(owner: Integrator, device: Device, action: str) -> None:
    assert_error(post_raw_action(owner, device, action), 400, "INVALID_REQUEST")
