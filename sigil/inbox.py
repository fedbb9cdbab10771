"""The service of `POST /device/pending`: all that a device is being asked (docs/protocol.md, 5.2)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sigil.approvals.messages import ApprovalMessages
from sigil.challenges.messages import ChallengeMessages
from sigil.core import approval, challenge
from sigil.core.nonce import USED_NONCE, use_once
from sigil.core.session_store import Decision, Key, SessionStore
from sigil.protocol import messages, signed_bytes
from sigil.protocol.approval_messages import MpaPayload
from sigil.protocol.encoding import decode_base64, parse_time
from sigil.protocol.errors import InvalidSignature
from sigil.protocol.ids import format_uuid
from sigil.protocol.keys import PublicKey
from sigil.sessions.device_refs import DeviceResolver

PENDING_SKEW_SECONDS = 60


class Inbox:
    """Collaborators: what is signed and who may be named, session store, clock; `server_id` is what a device signs."""

    def __init__(
        self,
        *,
        server_id: str,
        challenges: ChallengeMessages,
        approvals: ApprovalMessages,
        devices: DeviceResolver,
        store: SessionStore,
        clock: Callable[[], float],
    ) -> None:
        self._server_id = server_id
        self._challenges = challenges
        self._approvals = approvals
        self._devices = devices
        self._store = store
        self._clock = clock

    async def pending(self, asked: messages.Pending) -> messages.PendingList:
        """What a device has to decide, for when a push was lost. A device that nobody knows causes no write."""
        device = self._devices.resolve(asked.device_public_key)
        at = parse_time(asked.timestamp, "$.timestamp")
        signature = decode_base64(asked.signature, "$.signature")
        message = signed_bytes.pending(self._server_id, asked.timestamp)
        if abs(self._clock() - at) > PENDING_SKEW_SECONDS or not device.verify(message, signature):
            raise InvalidSignature
        ledger = await self._store.get(challenge.ledger_key(device.wire))
        listed = messages.PendingList([], [])
        if ledger is None:
            return listed
        await self._spend(device, at)
        for name in ledger.pending(self._clock()):
            if (payload := await self._challenge(device, name)) is not None:
                listed.challenges.append(payload)
            elif (part := await self._approval(device, name)) is not None:
                listed.mpa.append(part)
        return listed

    async def _spend(self, device: PublicKey, at: int) -> None:
        key = Key(USED_NONCE, bytes.fromhex(device.fingerprint)[:16] + at.to_bytes(8))

        def rule(_now: float, rows: tuple[Any, ...]) -> Decision[bool]:
            return use_once(key, rows[0], at + PENDING_SKEW_SECONDS + 1)

        if not await self._store.transact([key], rule):
            raise InvalidSignature

    async def _challenge(self, device: PublicKey, name: bytes) -> messages.ChallengePayload | None:
        row = challenge.settle(self._clock(), await self._store.get(challenge.challenge_key(name)))
        if row is None or not row.open or row.public_key != device.wire:
            return None
        return self._challenges.payload(format_uuid(name), row)

    async def _approval(self, device: PublicKey, name: bytes) -> MpaPayload | None:
        """A request stands in its members' ledgers under its id, as a challenge does."""
        row = approval.settle(self._clock(), await self._store.get(approval.approval_key(name)))
        if row is None or device.wire not in row.members or not row.waits_for(row.members.index(device.wire)):
            return None
        return self._approvals.payload(name, row, device)
