"""Frames of a relay's WebSocket. Their content is untrusted."""

from __future__ import annotations

import msgspec

from sigil.device.errors import MalformedPayload
from sigil.protocol.encoding.ids import parse_uuid
from sigil.protocol.errors import InvalidRequest
from sigil.protocol.messages.decoding import decode

_MAX_PUSH_ID = 128
# A payload has all of them, a reference none (SIGIL_PUSH_CONTENT=reference).
_CONTENT = frozenset(("action", "action_context", "challenge_bytes", "nonce", "server_signature"))


class Frame(msgspec.Struct, frozen=True):
    """A text frame and its head. Pushes have a `push_id`, the relay's own messages have none."""

    type: str
    push_id: str | None = None
    text: bytes = b""


class Reference(msgspec.Struct, frozen=True):
    """A push that contains only the ids of a server and a challenge or request."""

    server_id: str
    challenge_id: str = ""
    mpa_id: str = ""

    @property
    def id(self) -> str:
        return self.challenge_id or self.mpa_id


class Clear(msgspec.Struct, frozen=True):
    challenge_id: str = ""
    mpa_id: str = ""
    status: str = ""

    @property
    def id(self) -> str:
        return (self.challenge_id or self.mpa_id)[:64]


class _Head(msgspec.Struct, frozen=True):
    type: str
    push_id: str | None = None


def parse_frame(text: bytes) -> Frame:
    """InvalidRequest unless it is a JSON object with a type and, if any, a push_id that can be acknowledged."""
    head = decode(text, _Head)
    if head.push_id is not None and not 0 < len(head.push_id) <= _MAX_PUSH_ID:
        raise InvalidRequest("push_id is empty or too long.", path="$.push_id")
    return Frame(head.type, head.push_id, text)


def parse_reference(text: bytes) -> Reference | None:
    """None when the push has content of its own; MalformedPayload."""
    try:
        if _CONTENT & decode(text, dict[str, msgspec.Raw]).keys():
            return None
        reference = decode(text, Reference)
    except InvalidRequest as error:
        raise MalformedPayload(f"{MalformedPayload.summary} {error.message} ({error.details['path']})") from error
    if parse_uuid(reference.id) is None:
        raise MalformedPayload("The id is not a version 4 UUID in lower case.")
    return reference


def parse_clear(text: bytes) -> Clear | None:
    """None when it is not a `clear`."""
    try:
        clear = decode(text, Clear)
    except InvalidRequest:
        return None
    return clear if clear.id else None
