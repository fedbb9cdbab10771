"""The action that a person approves: `{type, description, params?}` and its canonical bytes (docs/protocol.md, 2.4)."""

from __future__ import annotations

import re
from typing import Annotated, Any

import msgspec

from sigil.protocol.encoding.canonical import MAX_INTEGER, NotCanonical, canonical
from sigil.protocol.errors import InvalidRequest

MAX_JCS_BYTES = 2048
MAX_DEPTH = 16

# Control, surrogate and separator characters, and those that reorder or hide text on a screen.
_NOT_DISPLAYABLE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u2028\u2029\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]|[\ud800-\udfff]"
)


class Action(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A parsed action. Only `action_jcs` checks all of its rules."""

    # "$" alone would let a trailing newline pass in Python.
    type: Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9_.:-]{1,64}$(?!\n)")]
    description: Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
    # Strings, booleans, null, integers within ±(2^53-1), lists and objects.
    params: dict[str, Any] | None = None


def action_jcs(action: Action, path: str = "$.action") -> bytes:
    """JCS of the action, at most 2048 bytes. Raises InvalidRequest with the path of the member that breaks a rule."""
    if _NOT_DISPLAYABLE.search(action.description):
        raise InvalidRequest(
            "A description must not contain control, line-separating, direction or invisible characters.",
            path=f"{path}.description",
        )
    members: dict[str, Any] = {"type": action.type, "description": action.description}
    if action.params is not None:
        _check_value(action.params, 1, f"{path}.params")
        members["params"] = action.params
    try:
        encoded = canonical(members)
    except NotCanonical as error:
        raise InvalidRequest("A string contains half of a surrogate pair.", path=f"{path}.params") from error
    if len(encoded) > MAX_JCS_BYTES:
        raise InvalidRequest(f"The action is larger than {MAX_JCS_BYTES} bytes as canonical JSON.", path=path)
    return encoded


class _ActionType(msgspec.Struct):
    type: str


_decode_type = msgspec.json.Decoder(_ActionType).decode


def action_type(action: bytes) -> str:
    """The type of an action, given as JSON that `action_jcs` made."""
    return _decode_type(action).type


def _check_value(value: Any, depth: int, path: str) -> None:
    """Allow only values that every JSON parser and serialiser turns into the same bytes."""
    if isinstance(value, float) or (type(value) is int and abs(value) > MAX_INTEGER):
        raise InvalidRequest("A number must be an integer within ±(2^53-1), no fraction, exponent or -0.", path=path)
    if isinstance(value, dict | list):
        if depth > MAX_DEPTH:
            raise InvalidRequest(f"params is nested deeper than {MAX_DEPTH} levels.", path=path)
        for item in value.values() if isinstance(value, dict) else value:
            _check_value(item, depth + 1, path)
