"""The action that a person approves: `{type, description, params?}` and its canonical bytes (docs/protocol.md, 2.4)."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from sigil.protocol.encoding.canonical import MAX_INTEGER, NotCanonical, canonical
from sigil.protocol.encoding.display_text import problem_of
from sigil.protocol.errors import InvalidRequest

MAX_JCS_BYTES = 2048
MAX_DEPTH = 16


class Action(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a person approves (docs/protocol.md, 2.4); `action_jcs` checks all of its rules"""

    # "$" alone would let a trailing newline pass in Python.
    type: Annotated[
        str,
        msgspec.Meta(
            pattern=r"^[a-z0-9_.:-]{1,64}$(?!\n)",
            description="1 to 64 characters of a-z, 0-9, underscore, dot, colon and hyphen",
        ),
    ]
    description: Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
    # Strings, booleans, null, integers within ±(2^53-1), lists and objects.
    params: dict[str, Any] | None = None


def action_jcs(action: Action, path: str = "$.action") -> bytes:
    """JCS of the action, at most 2048 bytes. Raises InvalidRequest with the path of the member that breaks a rule."""
    members: dict[str, Any] = {"type": action.type, "description": action.description}
    if action.params is not None:
        _check_value(action.params, 1, f"{path}.params")
        members["params"] = action.params
    try:
        encoded = canonical(members)
    except NotCanonical as error:
        _check_texts(action, path)
        raise InvalidRequest("A string contains half of a surrogate pair.", path=f"{path}.params") from error
    if not _is_plain(encoded):
        _check_texts(action, path)
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


def _is_plain(encoded: bytes) -> bool:
    """Whether every text in canonical JSON is ASCII without escapes and begins with a visible character, as in nearly
    every action. A check of each text would take ten times as long.
    """
    return encoded.isascii() and not (b"\\" in encoded or b"\x7f" in encoded or b'" ' in encoded)


def _check_texts(action: Action, path: str) -> None:
    """Allow only texts that a person can see."""
    _check_text("The description", action.description, f"{path}.description")
    _check_shown_in(action.params, f"{path}.params")


def _check_shown_in(value: Any, path: str) -> None:
    if isinstance(value, dict):
        for name, item in value.items():
            _check_shown("A name in params", name, path)
            _check_shown_in(item, path)
    elif isinstance(value, list):
        for item in value:
            _check_shown_in(item, path)
    elif isinstance(value, str):
        _check_shown("A text in params", value, path)


def _check_shown(subject: str, text: str, path: str) -> None:
    """An escape sequence or a newline in params could rewrite the rest of what a device shows. An empty text cannot."""
    if text:
        _check_text(subject, text, path)


def _check_text(subject: str, text: str, path: str) -> None:
    if problem := problem_of(text):
        raise InvalidRequest(f"{subject} must be displayable text: {problem}.", path=path)
