"""What an action may be, seen from the integrator's side to the signed bytes."""

from __future__ import annotations

import json
from typing import Any

import pytest
import rfc8785

from .integrator import Integrator, approve, good, refused
from .wire import Device, message_of, unb64, verifies

LIMIT = 2**53 - 1


def act(**changes: Any) -> dict[str, Any]:
    return {"type": "step_up", "description": "Sign in", **changes}


def nested(levels: int) -> dict[str, Any]:
    """`levels` objects, one in another, the outermost counted."""
    value: dict[str, Any] = {}
    for _ in range(levels - 1):
        value = {"a": value}
    return value


def sized(octets: int) -> dict[str, Any]:
    """An action whose canonical form has exactly this many bytes."""
    action = act(params={"fill": ""})
    action["params"]["fill"] = "x" * (octets - len(rfc8785.dumps(action)))
    return action


def raw(owner: Integrator, device: Device, action: str) -> Any:
    return owner.post(f'{{"device_public_key":"{device.public}","action":{action}}}'.encode())


ACCEPTED: dict[str, dict[str, Any]] = {
    "no params": act(),
    "empty params": act(params={}),
    "a type of one character": act(type="a"),
    "a type of 64 characters": act(type="a" * 64),
    "every character a type may have": act(type="abcdefghijklmnopqrstuvwxyz0123456789_.:-"),
    "a description of one character": act(description="x"),
    "a description of 256 characters": act(description="x" * 256),
    "a description of 256 astral characters": act(description="🦊" * 256),
    "a description in many scripts": act(description="Zoë 支付 оплата دفع é ﬁ \u00a0\u3000"),
    "a description with quotes and backslashes": act(description='"\\/<>&'),
    "a private-use character": act(description="\ue000"),
    "the largest integers": act(params={"a": LIMIT, "b": -LIMIT}),
    "null, true, false and zero": act(params={"a": None, "b": True, "c": False, "d": 0}),
    "an empty list, object and string": act(params={"a": [], "b": {}, "c": "", "": "empty name"}),
    "keys that UTF-16 sorts otherwise than UTF-8": act(params={"\ufb33": 1, "😀": 2, "é": 3, "A": 4, "a": 5}),
    "control characters in a param": act(params={"a": "\x00\x1f\x7f\u2028\u202e\n\t\b\f\r"}),
    "16 levels of params": act(params=nested(16)),
    "2048 bytes": sized(2048),
}


@pytest.mark.parametrize("kind", ACCEPTED)
def test_an_action_arrives_unchanged_and_signed(owner: Integrator, device: Device, kind: str) -> None:
    action = ACCEPTED[kind]
    challenge = owner.challenge(device, action)
    message = message_of(challenge["challenge_bytes"], action)
    assert verifies(owner.server.identity.keys["ES256"].public, message, unb64(challenge["server_signature"]))
    assert owner.state(challenge["challenge_id"])["action"] == action
    approve(owner.server, device, challenge, action)


def test_params_that_are_null_count_as_absent(owner: Integrator, device: Device) -> None:
    challenge = owner.challenge(device, act(params=None))
    assert owner.state(challenge["challenge_id"])["action"] == act()
    approve(owner.server, device, challenge, act())


def test_escapes_and_order_of_the_request_do_not_matter(owner: Integrator, device: Device) -> None:
    text = '{ "params" : {"b":1, "a":"\\u00e9\\ud83d\\ude00\\/"}, "description":"\\u0053ign in", "type":"step_up" }'
    challenge = good(raw(owner, device, text), 201)
    action = act(params={"a": "é😀/", "b": 1})
    assert owner.state(challenge["challenge_id"])["action"] == action
    approve(owner.server, device, challenge, action)


REFUSED: dict[str, tuple[Any, str]] = {
    "another member": (act(user_id="alice"), "action"),
    "no type": ({"description": "x"}, "action"),
    "no description": ({"type": "x"}, "action"),
    "a null type": (act(type=None), "type"),
    "a null description": (act(description=None), "description"),
    "an empty type": (act(type=""), "type"),
    "a type of 65 characters": (act(type="a" * 65), "type"),
    "a type in upper case": (act(type="Step"), "type"),
    "a type with a blank": (act(type="step up"), "type"),
    "a type with a line feed at its end": (act(type="step\n"), "type"),
    "a type with a letter beyond ASCII": (act(type="stép"), "type"),
    "a type with a digit beyond ASCII": (act(type="step٣"), "type"),
    "a number as type": (act(type=7), "type"),
    "an empty description": (act(description=""), "description"),
    "a description of 257 characters": (act(description="x" * 257), "description"),
    "a number as description": (act(description=7), "description"),
    "a list as params": (act(params=[1]), "params"),
    "a string as params": (act(params="x"), "params"),
    "an integer too large": (act(params={"a": LIMIT + 1}), "params"),
    "an integer too small": (act(params={"a": -LIMIT - 1}), "params"),
    "an integer beyond 64 bits": (act(params={"a": 2**64}), "params"),
    "a huge integer": (act(params={"a": 10**400}), "params"),
    "a fraction": (act(params={"a": 1.5}), "params"),
    "a fraction deep inside": (act(params={"a": [{"b": [0.5]}]}), "params"),
    "17 levels of params": (act(params=nested(17)), "params"),
    "40 levels of lists": (act(params={"a": json.loads("[" * 40 + "]" * 40)}), "params"),
    "2049 bytes": (sized(2049), "action"),
    "20000 bytes": (sized(20000), "action"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_an_action_outside_the_rules_is_refused_and_named(owner: Integrator, device: Device, kind: str) -> None:
    action, path = REFUSED[kind]
    refused(owner.create(device, action), 400, "INVALID_REQUEST", path)


def test_no_description_hides_characters(owner: Integrator, device: Device) -> None:
    points = [0, 9, 10, 13, 0x1F, 0x7F, 0x80, 0x9F, 0x2028, 0x2029, 0x200B, 0x200D, 0x200F, 0x202A, 0x202E]
    for point in (*points, 0x2060, 0x2065, 0x2066, 0x2069, 0xFEFF):
        answer = owner.create(device, act(description=f"a{chr(point)}b"))
        assert answer.status_code == 400, hex(point)
        refused(answer, 400, "INVALID_REQUEST", "description")


@pytest.mark.parametrize(
    "number", ["1.0", "1e3", "1E3", "1e-3", "-0", "-0.0", "0.0", "1e400", "NaN", "Infinity", "-Infinity", "01", "+1"]
)
def test_a_number_that_is_no_plain_integer_is_refused(owner: Integrator, device: Device, number: str) -> None:
    action = '{"type":"t","description":"d","params":{"a":' + number + "}}"
    refused(raw(owner, device, action), 400, "INVALID_REQUEST")


@pytest.mark.parametrize("text", ['"\\ud800"', '"\\udc00\\ud800"', '"a\\ud83d"'])
def test_lone_surrogates_are_refused_as_values_and_as_names(owner: Integrator, device: Device, text: str) -> None:
    for params in (f'{{"a":{text}}}', f"{{{text}:1}}", f'{{"a":[{text}]}}'):
        action = f'{{"type":"t","description":"d","params":{params}}}'
        refused(raw(owner, device, action), 400, "INVALID_REQUEST")
    refused(raw(owner, device, f'{{"type":"t","description":{text}}}'), 400, "INVALID_REQUEST")


@pytest.mark.parametrize(
    "action",
    [
        '{"type":"t","type":"u","description":"d"}',
        '{"type":"t","description":"d","params":{"a":1,"a":2}}',
        '{"type":"t","description":"d","params":{"a":[{"b":1,"\\u0062":2}]}}',
    ],
)
def test_a_member_that_is_there_twice_is_refused(owner: Integrator, device: Device, action: str) -> None:
    refused(raw(owner, device, action), 400, "INVALID_REQUEST")
