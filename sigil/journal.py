"""What the services tell, as log lines (docs/operations.md)."""

from __future__ import annotations

import hashlib

import msgspec

from sigil.core.challenge import Challenge
from sigil.protocol.api_key import Caller
from sigil.protocol.ids import format_uuid
from sigil.serving import logs
from sigil.serving.edge import request_id

_MESSAGES = {"challenge_expired": "challenge expired before response"}
_LEVELS = {"signature_failed": "warn", "replay_blocked": "warn"}


class _Typed(msgspec.Struct):
    type: str


_type_of = msgspec.json.Decoder(_Typed).decode


def record(event: str, challenge_id: bytes, challenge: Challenge) -> None:
    """One line for what happened to a challenge."""
    level = _LEVELS.get(event, "info")
    if not logs.enabled(level):
        return
    fields: dict[str, object] = {
        "challenge_id": format_uuid(challenge_id),
        "fingerprint": logs.short(hashlib.sha256(challenge.public_key).hexdigest()),
        "action_type": _type_of(challenge.action).type,
        "key_id": Caller(challenge.owner).key_id,
    }
    if current := request_id.get():
        fields["request_id"] = current
    if challenge.reason:
        fields["reason"] = challenge.reason
    if event in _MESSAGES:
        fields["message"] = _MESSAGES[event]
    logs.report(level, event, fields)
