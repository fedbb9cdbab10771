"""The plaintext of a Web Push: a reference, for every payload. The page gets the challenge from its server."""

from __future__ import annotations

import re

import msgspec

from relay.transports.notification_text import BODY, TITLE, decode_reference

PADDED_BYTES = 1024
"""The longest message is below 950 bytes: an app has at most 512 characters, an id 64, three times."""
_ID = re.compile(r"[A-Za-z0-9_-]{1,64}\Z", re.ASCII)
_TYPES = frozenset({"challenge", "mpa"})


class _Data(msgspec.Struct, frozen=True):
    type: str
    id: str
    until: int


class _Notification(msgspec.Struct, frozen=True):
    title: str
    body: str
    tag: str
    navigate: str
    data: _Data


class _Message(msgspec.Struct, frozen=True):
    """Declarative Web Push: a browser that knows it shows the notification, also where no worker runs."""

    notification: _Notification
    web_push: int = 8030


_encode = msgspec.json.Encoder().encode


def message(payload: bytes, app: str, until: int) -> bytes:
    """`until` is the end of what the push announces, in Unix seconds."""
    found = decode_reference(payload)
    name = found.challenge_id or found.mpa_id
    known = _ID.match(name) is not None and found.type in _TYPES
    data = _Data(found.type, name, until) if known else _Data("", "", until)
    return _encode(_Message(_Notification(TITLE, BODY, data.id, f"{app}#{data.id}", data)))
