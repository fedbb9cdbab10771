"""From what an integrator wants to a request that can be made: every member a device, and a quorum that is possible."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from sigil.core.approval import Approval
from sigil.core.quorum import NOT_ELIGIBLE, OPEN
from sigil.delivery.backlog import PushBacklog
from sigil.protocol import approval_messages as messages
from sigil.protocol.action import action_jcs
from sigil.protocol.api_key import Caller
from sigil.protocol.errors import InvalidPublicKey, InvalidRequest
from sigil.protocol.ids import format_uuid, uuid4_bytes
from sigil.protocol.keys import PublicKey
from sigil.protocol.signed_bytes import groups_sha256
from sigil.sessions.device_refs import DeviceResolver

# Keys that are loaded between two looks at other requests: a millisecond.
_AT_ONCE = 50


class DraftBuilder:
    """`respond_to` is empty when devices use their pinned address; `exclude_requester` is for those who decide about
    their own requests.
    """

    def __init__(
        self,
        *,
        devices: DeviceResolver,
        clock: Callable[[], float],
        randomness: Callable[[int], bytes],
        outgoing: PushBacklog,
        exclude_requester: bool = False,
        respond_to: str = "",
    ) -> None:
        self._devices = devices
        self._clock = clock
        self._randomness = randomness
        self._outgoing = outgoing
        self._exclude_requester = exclude_requester
        self._respond_to = respond_to

    async def build(self, caller: Caller, wanted: messages.CreateMpa) -> Approval:
        """InvalidRequest, InvalidPublicKey, FingerprintMismatch."""
        devices = await self._members(wanted.groups)
        if wanted.required > len(wanted.groups):
            raise InvalidRequest("More groups are required than there are.", path="$.required")
        sizes = tuple(len(group.members) for group in wanted.groups)
        fingerprints = iter([device.fingerprint for device in devices])
        draft = Approval(
            owner=caller.owner,
            request_id=wanted.request_id or format_uuid(uuid4_bytes(self._randomness(16))),
            nonce=self._randomness(32),
            action=action_jcs(wanted.action),
            created_ms=int(self._clock() * 1000),
            lifetime=wanted.expires_in_seconds or messages.DEFAULT_EXPIRY_SECONDS,
            required=wanted.required,
            reject_on_first=wanted.reject_policy == "reject_on_first",
            sizes=sizes,
            members=tuple(device.wire for device in devices),
            groups_sha256=groups_sha256([[next(fingerprints) for _ in range(size)] for size in sizes]),
            ballots=self._first_ballots(devices, wanted.action.params or {}),
            respond_to=self._respond_to,
            pushed=bool(self._outgoing.push),
        )
        if draft.quorum.is_impossible(draft.ballots):
            raise InvalidRequest("Without the one who asks, too few groups can approve.", path="$.groups")
        return draft

    async def _members(self, groups: Sequence[messages.WantedGroup]) -> list[PublicKey]:
        """All members, each a device of its own."""
        devices: dict[PublicKey, str] = {}
        for group_number, group in enumerate(groups):
            for number, member in enumerate(group.members):
                at = f"$.groups[{group_number}].members[{number}]"
                try:
                    device = self._devices.resolve(member.device_public_key, member.fingerprint, at)
                except InvalidPublicKey as error:
                    raise InvalidPublicKey(path=f"{at}.device_public_key") from error
                if device in devices:
                    raise InvalidRequest(f"This device is a member already, at {devices[device]}.", path=at)
                devices[device] = at
                if len(devices) % _AT_ONCE == 0:
                    await asyncio.sleep(0)
        return list(devices)

    def _first_ballots(self, devices: Sequence[PublicKey], params: dict[str, Any]) -> bytes:
        requester = params.get("requested_by") if self._exclude_requester else None
        return b"".join(NOT_ELIGIBLE if device.fingerprint == requester else OPEN for device in devices)
