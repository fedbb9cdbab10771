"""What a device checks before it shows a multi-party request to anyone (docs/protocol.md, 5.3).

    shown = verify_mpa_payload(payload, pin, device.public, now)     # PayloadRefused

Who else may vote is in it as a hash alone: that is for whoever audits the votes. A vote of a device that is no member
is worth nothing, since the signed hash names the members.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import msgspec

from sigil.device.challenge_checks import (
    ShownChallenge,
    check_expiry,
    check_respond_to,
    check_signature,
    or_malformed,
    seconds_left,
    verified_action,
)
from sigil.device.errors import ContextMismatch, MalformedPayload, ServerNotPinned
from sigil.device.server_pin import ServerPin
from sigil.protocol import signed_bytes
from sigil.protocol.approval_messages import ActionContext, MpaPayload
from sigil.protocol.canonical import NotCanonical, canonical
from sigil.protocol.encoding import decode_base64, decode_hex, parse_time
from sigil.protocol.ids import parse_uuid
from sigil.protocol.keys import SIGNATURE_LENGTH, PublicKey
from sigil.protocol.messages import decode

_ACTION = ("type", "description", "params")


@dataclass(frozen=True)
class ShownApproval:
    """A request that passed every check: what is asked, by whom, until when, and the context to sign.

    `expires_at` is Unix seconds; `params` is None when the action has none; `required` counts groups.
    """

    mpa_id: str
    server: ServerPin
    request_id: str
    action_type: str
    description: str
    params: dict[str, Any] | None
    expires_at: int
    required: int
    reject_policy: str
    context: dict[str, Any]
    action_jcs: bytes
    number_matching: bool = False

    @property
    def id(self) -> str:
        return self.mpa_id

    def seconds_left(self, now: float) -> int:
        return seconds_left(self.expires_at, now)


Shown = ShownChallenge | ShownApproval
"""What passed every check, of either kind."""


def verify_mpa_payload(payload: bytes, server: ServerPin, device: PublicKey, now: float) -> ShownApproval:
    """The request of a payload, if the pinned server asks exactly this; PayloadRefused.

    `payload` is JSON; `now` is Unix seconds.
    """
    told = or_malformed(lambda: decode(payload, MpaPayload))
    expires_at, signature = _decoded(told)
    if told.server_id != server.server_id:
        raise ServerNotPinned
    members, context = _context(told)
    action = verified_action(msgspec.Raw(canonical({name: members[name] for name in _ACTION if name in members})))
    _check_told(told, context)
    check_signature(signed_bytes.mpa_approval(members), signature, server.key(device.suite))
    check_respond_to(told.respond_to, server)
    check_expiry(expires_at, now)
    return ShownApproval(
        mpa_id=context.mpa_id,
        server=server,
        request_id=context.request_id,
        action_type=context.type,
        description=context.description,
        params=members.get("params"),
        expires_at=expires_at,
        required=context.required,
        reject_policy=context.reject_policy,
        context=members,
        action_jcs=action,
    )


def _decoded(payload: MpaPayload) -> tuple[int, bytes]:
    if parse_uuid(payload.mpa_id) is None:
        raise MalformedPayload("mpa_id is not a version 4 UUID in lower case.")
    or_malformed(partial(decode_hex, payload.server_id, "$.server_id", length=32))
    return (
        or_malformed(partial(parse_time, payload.expires_at, "$.expires_at")),
        or_malformed(partial(decode_base64, payload.server_signature, "$.server_signature", length=SIGNATURE_LENGTH)),
    )


def _context(payload: MpaPayload) -> tuple[dict[str, Any], ActionContext]:
    """What is signed; ContextMismatch unless it is sent as its canonical JSON, as an action is."""
    text = bytes(payload.action_context)
    context = or_malformed(lambda: decode(text, ActionContext))
    members = or_malformed(lambda: decode(text, dict[str, Any]))
    try:
        encoded = canonical(members)
    except NotCanonical as error:
        raise ContextMismatch("The context has no canonical JSON form.") from error
    if encoded != text or set(members) - set(ActionContext.__struct_fields__):
        raise ContextMismatch("The context is not sent as its canonical JSON, or holds what has no place in it.")
    return members, context


def _check_told(payload: MpaPayload, context: ActionContext) -> None:
    """What stands beside the signed context is the same in it."""
    told = (payload.mpa_id, payload.server_id, payload.expires_at, payload.respond_to or "")
    if told != (context.mpa_id, context.server_id, context.expires_at, context.respond_to):
        raise ContextMismatch
