"""What a person sees of a push before the app has read it, and what is left of a payload that does not fit."""

from __future__ import annotations

import msgspec

# For lock screens, and for the provider: not who asks, nor what.
TITLE = "Approval requested"
BODY = "Open the app to see who asks, and what for."


class _Reference(msgspec.Struct, omit_defaults=True):
    type: str = ""
    challenge_id: str = ""
    mpa_id: str = ""
    server_id: str = ""


_decode = msgspec.json.Decoder(_Reference).decode
_encode = msgspec.json.Encoder().encode


def is_clear(payload: bytes) -> bool:
    return _read(payload).type == "clear"


def reference(payload: bytes) -> bytes | None:
    """Type, id and server_id alone: the device asks its server for the rest. None when there is no id."""
    found = _read(payload)
    return _encode(found) if found.challenge_id or found.mpa_id else None


def _read(payload: bytes) -> _Reference:
    try:
        return _decode(payload)
    except msgspec.ValidationError:
        # Members of these names that are no texts: a payload of a server of another kind.
        return _Reference()
