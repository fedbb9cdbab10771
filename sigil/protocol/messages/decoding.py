"""From bytes to a message, and from a mistake in them to InvalidRequest with its path (docs/protocol.md, section 1)."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, TypeVar, cast

import msgspec

from sigil.protocol.encoding import strict_json
from sigil.protocol.errors import InvalidRequest
from sigil.protocol.messages.mistakes import mistake

T = TypeVar("T")


def decode_request(body: bytes, kind: type[T]) -> T:
    """Parse a request as strict JSON. Raises InvalidRequest with `details.path`."""
    value = strict_json.parse(body)
    try:
        message: T = msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise mistake(error, kind) from error
    return message


def decode(body: bytes, kind: type[T]) -> T:
    """Parse an answer, fast. Raises InvalidRequest with `details.path` when it does not have that form."""
    try:
        message: T = _decoder(cast(Any, kind)).decode(body)
    except msgspec.ValidationError as error:
        raise mistake(error, kind) from error
    # msgspec also raises errors that are not its own: for bad UTF-8 inside a string, and for nesting about 1000 deep.
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequest("The body is not valid JSON.", path="$") from error
    return message


@lru_cache
def _decoder(kind: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(kind)
