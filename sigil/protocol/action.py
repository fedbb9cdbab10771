"""What a person is asked to approve: `{type, description, params?}` and its canonical bytes (docs/protocol.md, 2.4)."""

from __future__ import annotations

import json
import re
from typing import Annotated, Any

import msgspec

from sigil.protocol.canonical import MAX_INTEGER, NotCanonical, canonical
from sigil.protocol.errors import InvalidRequest

MAX_JCS_BYTES = 2048
MAX_DEPTH = 16

# Control, surrogate and separator characters, and those that reorder or hide text on a screen.
_UNSHOWABLE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u2028\u2029\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]|[\ud800-\udfff]"
)
_decode_any = msgspec.json.Decoder(float_hook=None).decode


class Action(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An action as it came: `params` is the member's JSON text, `null` when there is none."""

    # "$" alone would let a trailing newline pass in Python.
    type: Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9_.:-]{1,64}$(?!\n)")]
    description: Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
    params: Annotated[
        msgspec.Raw,
        msgspec.Meta(
            description="Strings, booleans, null, integers within ±(2^53-1), lists and objects; depth at most 16.",
            extra_json_schema={"type": ["object", "null"]},
        ),
    ] = msgspec.Raw(b"null")


def action_jcs(action: Action, path: str = "$.action") -> bytes:
    """JCS of the action, at most 2048 bytes; InvalidRequest names the member that breaks a rule."""
    if _UNSHOWABLE.search(action.description):
        raise InvalidRequest(
            "A description has no control, line-separating, direction or invisible characters.",
            path=f"{path}.description",
        )
    members: dict[str, Any] = {"type": action.type, "description": action.description}
    params = _params(bytes(action.params), f"{path}.params")
    if params is not None:
        members["params"] = params
    try:
        encoded = canonical(members)
    except NotCanonical as error:
        raise InvalidRequest("A string holds half of a surrogate pair.", path=f"{path}.params") from error
    if len(encoded) > MAX_JCS_BYTES:
        raise InvalidRequest(f"The action is larger than {MAX_JCS_BYTES} bytes as canonical JSON.", path=path)
    return encoded


def _params(text: bytes, path: str) -> dict[str, Any] | None:
    if text == b"null":
        return None
    try:
        value = _load_with_minus_zero(text) if b"-0" in text else _decode_any(text)
    except (ValueError, RecursionError) as error:
        raise InvalidRequest("params cannot be read as JSON.", path=path) from error
    if type(value) is not dict:
        raise InvalidRequest("params is a JSON object.", path=path)
    _check(value, 1, path)
    return value


def _load_with_minus_zero(text: bytes) -> Any:
    """Keeps `-0` apart from `0`, which the fast decoder does not: serialisers disagree about it."""
    return json.loads(text, parse_int=lambda digits: -0.0 if digits == "-0" else int(digits))


def _check(value: Any, depth: int, path: str) -> None:
    """Only what every JSON parser and serialiser takes to the same bytes."""
    if isinstance(value, float) or (type(value) is int and abs(value) > MAX_INTEGER):
        raise InvalidRequest("Numbers are integers within ±(2^53-1), without fraction, exponent or -0.", path=path)
    if isinstance(value, dict | list):
        if depth > MAX_DEPTH:
            raise InvalidRequest(f"params is nested deeper than {MAX_DEPTH}.", path=path)
        for item in value.values() if isinstance(value, dict) else value:
            _check(item, depth + 1, path)
