"""The service of `POST /device/pending`: everything that a device has to decide (docs/protocol.md, 5.2)."""

from __future__ import annotations

from typing import Any

from sigil.approvals.messages import ApprovalMessages
from sigil.challenges.messages import ChallengeMessages
from sigil.core import challenge
from sigil.core.approvals import approval
from sigil.core.nonce import USED_NONCE, use_once
from sigil.core.session_store import Decision, Key
from sigil.protocol import signed_bytes
from sigil.protocol.encoding.ids import format_uuid
from sigil.protocol.encoding.text import decode_base64, parse_time
from sigil.protocol.errors import InvalidSignature
from sigil.protocol.keys import PublicKey
from sigil.protocol.messages import challenges as messages
from sigil.protocol.messages.approvals import MpaPayload
from sigil.sessions.runtime import SessionRuntime

PENDING_SKEW_SECONDS = 60


class Inbox:
    """`server_id` is in the bytes that a device signs."""

    def __init__(
        self, runtime: SessionRuntime, *, server_id: str, challenges: ChallengeMessages, approvals: ApprovalMessages
    ) -> None:
        self._server_id = server_id
        self._challenges = challenges
        self._approvals = approvals
        self._devices = runtime.devices
        self._store = runtime.store
        self._clock = runtime.store.now
        self._time_of_day = runtime.time_of_day

    async def pending(self, request: messages.Pending) -> messages.PendingList:
        """What a device has to decide, for when a push was lost. A device without a ledger causes no write."""
        device = self._devices.resolve(request.device_public_key)
        at = parse_time(request.timestamp, "$.timestamp")
        signature = decode_base64(request.signature, "$.signature")
        message = signed_bytes.pending(self._server_id, request.timestamp)
        if abs(self._time_of_day() - at) > PENDING_SKEW_SECONDS or not device.verify(message, signature):
            raise InvalidSignature
        ledger = await self._store.get(challenge.ledger_key(device.wire))
        pending = messages.PendingList([], [])
        if ledger is None:
            return pending
        await self._use_nonce(device, at)
        for name in ledger.pending(self._clock()):
            if (payload := await self._challenge(device, name)) is not None:
                pending.challenges.append(payload)
            elif (request_payload := await self._approval(device, name)) is not None:
                pending.mpa.append(request_payload)
        return pending

    async def _use_nonce(self, device: PublicKey, at: int) -> None:
        key = Key(USED_NONCE, bytes.fromhex(device.fingerprint)[:16] + at.to_bytes(8))

        def rule(now: float, rows: tuple[Any, ...]) -> Decision[bool]:
            # As long as the timestamp may be valid, by the store's clock: the time of day may be set back.
            return use_once(key, rows[0], int(now) + 2 * PENDING_SKEW_SECONDS + 1)

        if not await self._store.transact([key], rule):
            raise InvalidSignature

    async def _challenge(self, device: PublicKey, name: bytes) -> messages.ChallengePayload | None:
        row = challenge.current_state(self._clock(), await self._store.get(challenge.challenge_key(name)))
        if row is None or not row.open or row.public_key != device.wire:
            return None
        return self._challenges.payload(format_uuid(name), row)

    async def _approval(self, device: PublicKey, name: bytes) -> MpaPayload | None:
        """A member's ledger lists a request by its id, as it lists a challenge."""
        row = approval.current_state(self._clock(), await self._store.get(approval.approval_key(name)))
        if row is None or device.wire not in row.members or not row.is_pending_for(row.members.index(device.wire)):
            return None
        return self._approvals.payload(name, row, device)
