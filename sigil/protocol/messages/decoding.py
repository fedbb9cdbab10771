"""From bytes to a message, and from a mistake in them to InvalidRequest with its path (docs/protocol.md, section 1)."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, TypeVar, cast

import msgspec

from sigil.protocol.encoding import strict_json
from sigil.protocol.errors import InvalidRequest

T = TypeVar("T")

_LOCATION = re.compile(r" - at `(\$[^`]*)`\Z")
_MEMBER = re.compile(r"Object (?:missing required|contains unknown) field `(.*?)`(?: - at `(\$[^`]*)`)?\Z", re.DOTALL)
_MAX_MESSAGE = 200


def decode_request(body: bytes, kind: type[T]) -> T:
    """Parse a request as strict JSON. Raises InvalidRequest with `details.path`."""
    value = strict_json.parse(body)
    try:
        message: T = msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise _located(str(error)) from error
    return message


def decode(body: bytes, kind: type[T]) -> T:
    """Parse an answer, fast. Raises InvalidRequest with `details.path` when it does not have that form."""
    try:
        message: T = _decoder(cast(Any, kind)).decode(body)
    except msgspec.ValidationError as error:
        raise _located(str(error)) from error
    # msgspec also raises errors that are not its own: for bad UTF-8 inside a string, and for nesting about 1000 deep.
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequest("The body is not valid JSON.", path="$") from error
    return message


def _located(text: str) -> InvalidRequest:
    """Split msgspec's "Expected `str`, got `int` - at `$.action.type`" into message and path."""
    if member := _MEMBER.match(text):
        name, parent = member[1], member[2] or "$"
        message, path = text[: member.end(1) + 1], f"{parent}.{name}"
    elif location := _LOCATION.search(text):
        message, path = text[: location.start()], location[1]
    else:
        message, path = text, "$"
    return InvalidRequest(f"{message[:_MAX_MESSAGE]}.", path=path[:_MAX_MESSAGE])


@lru_cache
def _decoder(kind: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(kind)
