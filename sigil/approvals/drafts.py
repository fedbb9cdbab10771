"""Turns a request body into a draft: every member is a valid device, and the quorum is possible."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from sigil.core.approvals.approval import Approval
from sigil.core.approvals.quorum import NOT_ELIGIBLE, OPEN
from sigil.protocol.action import action_jcs
from sigil.protocol.api_key import Caller
from sigil.protocol.encoding.ids import format_uuid, uuid4_bytes
from sigil.protocol.errors import DeviceRevoked, InvalidPublicKey, InvalidRequest
from sigil.protocol.keys import PublicKey
from sigil.protocol.messages import approvals as messages
from sigil.protocol.signed_bytes import groups_sha256
from sigil.sessions.runtime import SessionRuntime

# Keys parsed before other requests get the event loop: a millisecond.
_KEYS_AT_ONCE = 50


class DraftBuilder:
    """`respond_to` is empty when devices use their pinned address. With `exclude_requester` the device in
    `params.requested_by` may not vote. `attested`: whether votes may hold a credential.
    """

    def __init__(self, runtime: SessionRuntime, *, exclude_requester: bool, respond_to: str, attested: bool) -> None:
        self._attested = attested
        self._exclude_requester = exclude_requester
        self._respond_to = respond_to
        self._devices = runtime.devices
        self._push_backlog = runtime.notifier.push_backlog
        self._time_of_creation = runtime.time_of_creation
        self._randomness = runtime.randomness

    async def build(self, caller: Caller, body: messages.CreateMpa) -> Approval:
        """InvalidRequest, InvalidPublicKey, FingerprintMismatch, DeviceRevoked."""
        devices = await self._members(body.groups)
        if body.required > len(body.groups):
            raise InvalidRequest("`required` is larger than the number of groups.", path="$.required")
        sizes = tuple(len(group.members) for group in body.groups)
        fingerprints = iter([device.fingerprint for device in devices])
        created_ms, ahead = self._time_of_creation()
        draft = Approval(
            owner=caller.owner,
            request_id=body.request_id or format_uuid(uuid4_bytes(self._randomness(16))),
            nonce=self._randomness(32),
            action=action_jcs(body.action),
            created_ms=created_ms,
            lifetime=body.expires_in_seconds or messages.DEFAULT_EXPIRY_SECONDS,
            required=body.required,
            reject_on_first=body.reject_policy == "reject_on_first",
            sizes=sizes,
            members=tuple(device.wire for device in devices),
            groups_sha256=groups_sha256([[next(fingerprints) for _ in range(size)] for size in sizes]),
            ballots=self._first_ballots(devices, body.action.params or {}),
            respond_to=self._respond_to,
            pushed=bool(self._push_backlog.initial_push),
            ahead=ahead,
            attested=self._attested,
        )
        if draft.quorum.is_impossible(draft.ballots):
            raise InvalidRequest(
                "The requester may not vote, and the other devices are too few to approve.",
                path="$.groups",
            )
        return draft

    async def _members(self, groups: Sequence[messages.WantedGroup]) -> list[PublicKey]:
        """All members; a device may be a member once."""
        devices: dict[PublicKey, str] = {}
        for group_number, group in enumerate(groups):
            for number, member in enumerate(group.members):
                at = f"$.groups[{group_number}].members[{number}]"
                try:
                    device = self._devices.resolve(member.device_public_key, member.fingerprint, at)
                    self._devices.require_own_origin(device)
                    self._devices.require_not_revoked(device)
                except InvalidPublicKey as error:
                    raise InvalidPublicKey(error.message, path=f"{at}.device_public_key") from error
                except DeviceRevoked as error:
                    raise DeviceRevoked(path=f"{at}.device_public_key") from error
                if device in devices:
                    raise InvalidRequest(f"This device is already a member, at {devices[device]}.", path=at)
                devices[device] = at
                if len(devices) % _KEYS_AT_ONCE == 0:
                    await asyncio.sleep(0)
        return list(devices)

    def _first_ballots(self, devices: Sequence[PublicKey], params: dict[str, Any]) -> bytes:
        requester = params.get("requested_by") if self._exclude_requester else None
        return b"".join(NOT_ELIGIBLE if device.fingerprint == requester else OPEN for device in devices)
