"""The checks of a device before it shows an approval request (docs/protocol.md, 5.3).

    shown = verify_mpa_payload(payload, pin, device.public, now)     # PayloadRefused

The payload names the other members only by a hash, which an auditor of the votes can check. The vote of a device that
is not a member has no effect, since the signed hash names the members.
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
from sigil.protocol.encoding.canonical import NotCanonical, canonical
from sigil.protocol.encoding.ids import parse_uuid
from sigil.protocol.encoding.text import decode_base64, decode_hex, parse_time
from sigil.protocol.keys import SIGNATURE_LENGTH, PublicKey
from sigil.protocol.messages.approvals import ActionContext, MpaPayload
from sigil.protocol.messages.decoding import decode

_ACTION = ("type", "description", "params")


@dataclass(frozen=True)
class ShownApproval:
    """A request that passed every check: the server, the action, the expiry, and the context to sign.

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
"""A challenge or an approval request that passed every check."""


def verify_mpa_payload(payload: bytes, server: ServerPin, device: PublicKey, now: float) -> ShownApproval:
    """The request of a payload, if the pinned server signed exactly this; PayloadRefused.

    `payload` is JSON; `now` is Unix seconds.
    """
    decoded = or_malformed(lambda: decode(payload, MpaPayload))
    expires_at, signature = _validated(decoded)
    if decoded.server_id != server.server_id:
        raise ServerNotPinned
    members, context = _context(decoded)
    action = verified_action(msgspec.Raw(canonical({name: members[name] for name in _ACTION if name in members})))
    _check_unsigned_members(decoded, context)
    check_signature(signed_bytes.mpa_approval(members), signature, server.key(device.server_suite))
    check_respond_to(decoded.respond_to, server)
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


def _validated(payload: MpaPayload) -> tuple[int, bytes]:
    if parse_uuid(payload.mpa_id) is None:
        raise MalformedPayload("mpa_id is not a version 4 UUID in lower case.")
    or_malformed(partial(decode_hex, payload.server_id, "$.server_id", length=32))
    return (
        or_malformed(partial(parse_time, payload.expires_at, "$.expires_at")),
        or_malformed(partial(decode_base64, payload.server_signature, "$.server_signature", length=SIGNATURE_LENGTH)),
    )


def _context(payload: MpaPayload) -> tuple[dict[str, Any], ActionContext]:
    """The signed context; ContextMismatch unless it is sent as canonical JSON, as an action is."""
    text = bytes(payload.action_context)
    context = or_malformed(lambda: decode(text, ActionContext))
    members = or_malformed(lambda: decode(text, dict[str, Any]))
    try:
        encoded = canonical(members)
    except NotCanonical as error:
        raise ContextMismatch("The context has no canonical JSON form.") from error
    if encoded != text or set(members) - set(ActionContext.__struct_fields__):
        raise ContextMismatch("The context is not sent as canonical JSON, or has unknown members.")
    return members, context


def _check_unsigned_members(payload: MpaPayload, context: ActionContext) -> None:
    """Members outside the signed context must equal those in it."""
    unsigned = (payload.mpa_id, payload.server_id, payload.expires_at, payload.respond_to or "")
    if unsigned != (context.mpa_id, context.server_id, context.expires_at, context.respond_to):
        raise ContextMismatch
