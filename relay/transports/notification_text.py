"""The visible text of a push, and the short form of a payload that is too large for the provider."""

from __future__ import annotations

import msgspec

# The lock screen and the provider see this text: it names neither the requester nor the action.
TITLE = "Approval requested"
BODY = "Open the app to see who asks, and what for."


class Reference(msgspec.Struct, omit_defaults=True):
    type: str = ""
    challenge_id: str = ""
    mpa_id: str = ""
    server_id: str = ""


_decode = msgspec.json.Decoder(Reference).decode
_encode = msgspec.json.Encoder().encode


def is_clear(payload: bytes) -> bool:
    return decode_reference(payload).type == "clear"


def reference(payload: bytes) -> bytes | None:
    """Only the type, the id and the server_id: the device fetches the rest from its server. None without an id."""
    found = decode_reference(payload)
    return _encode(found) if found.challenge_id or found.mpa_id else None


def decode_reference(payload: bytes) -> Reference:
    try:
        return _decode(payload)
    except msgspec.ValidationError:
        # Another kind of server may use these names for members that are not strings.
        return Reference()
