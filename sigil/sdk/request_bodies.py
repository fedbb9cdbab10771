"""The body of `POST /challenge`. An action is checked against the rules for signed content before it is sent."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from sigil.protocol.action import Action as SignedAction
from sigil.protocol.action import action_jcs
from sigil.protocol.errors import InvalidRequest as Malformed
from sigil.protocol.messages.decoding import decode
from sigil.sdk.errors import InvalidRequest
from sigil.sdk.results import Action

_IDEMPOTENCY_KEY = re.compile(r"[\x21-\x7e]{1,255}\Z")


def challenge_body(device_public_key: str, action: Action | Mapping[str, Any], **members: object) -> bytes:
    """JSON, with members that are None left out; InvalidRequest."""
    given = {name: value for name, value in members.items() if value is not None}
    body = {"device_public_key": device_public_key, "action": msgspec.Raw(action_bytes(action)), **given}
    return encoded(body)


def encoded(body: Mapping[str, Any]) -> bytes:
    """JSON; InvalidRequest."""
    try:
        return msgspec.json.encode(body)
    except (TypeError, ValueError, RecursionError) as error:
        fault = f"The request cannot be written as JSON: {error}"
    raise InvalidRequest(fault, details={"path": "$"})


def action_bytes(action: Action | Mapping[str, Any]) -> bytes:
    """The canonical JSON of an action; InvalidRequest names the member that breaks a rule."""
    try:
        members = _members(action)
        read = decode(msgspec.json.encode(members), SignedAction)
        canonical = action_jcs(read, "$")
    except Malformed as error:
        fault, path = error.message, str(error.details["path"])
    except (TypeError, ValueError, RecursionError) as error:
        fault, path = f"The action cannot be written as JSON: {error}", "$"
    else:
        # msgspec turns a date or a Decimal into a string of its own choice, which the person would then approve.
        if members.get("params") == read.params:
            return canonical
        fault, path = "params holds a value that JSON does not have: a date, a Decimal, a tuple …", "$.params"
    raise InvalidRequest(fault, details={"path": path.replace("$", "$.action", 1)})


def _members(action: Action | Mapping[str, Any]) -> dict[str, Any]:
    if not isinstance(action, Action):
        return dict(action)
    members = {"type": action.type, "description": action.description}
    return members if action.params is None else {**members, "params": action.params}


def check_idempotency_key(key: str) -> str:
    """InvalidRequest unless it is 1..255 visible ASCII characters."""
    if not (isinstance(key, str) and _IDEMPOTENCY_KEY.match(key)):
        path = {"path": "Idempotency-Key"}
        raise InvalidRequest("An idempotency key must be 1 to 255 visible ASCII characters.", details=path)
    return key
