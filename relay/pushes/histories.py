"""What a server may read of its pushes to one device, and of the registration of the device."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from relay.pushes.server_shares import ServerShares
from relay.registry.model import AmbiguousFingerprint, History, PastPush
from relay.registry.port import PushQueue
from relay.registry.rules import fingerprints_beginning
from sigil.protocol.encoding.text import format_time
from sigil.protocol.errors import DeviceUnknown, FingerprintAmbiguous
from sigil.protocol.messages import relay as messages

COST = 10
"""A history counts in RELAY_SERVER_RATE as this many pushes: it is for a person, and reads several tables."""


class Histories:
    """`shares` limits the requests of a server; `clock` gives Unix seconds."""

    def __init__(self, *, registry: PushQueue, shares: ServerShares, clock: Callable[[], float]) -> None:
        self._registry = registry
        self._shares = shares
        self._clock = clock

    async def read(self, server_id: bytes, beginning: str) -> messages.PushHistory:
        """DeviceUnknown, FingerprintAmbiguous."""
        self._shares.charge(server_id, COST)
        first, last = fingerprints_beginning(beginning)
        async with self._shares.slot(server_id):
            try:
                found = await self._registry.history(server_id, first, last, self._clock())
            except AmbiguousFingerprint:
                raise FingerprintAmbiguous from None
        if found is None:
            raise DeviceUnknown
        return messages.PushHistory(found.fingerprint.hex(), _registration(found), [_past(one) for one in found.pushes])


def _registration(found: History) -> messages.Registration:
    device = found.device
    if device is None:
        return messages.Registration("not_registered")
    status: Literal["registered", "token_evicted"] = "registered" if device.evicted is None else "token_evicted"
    if not found.pushes:
        # The device may be of another server on this relay: no more than the answer to a push discloses.
        return messages.Registration(status, device.platform, device.evicted)
    return messages.Registration(
        status,
        device.platform,
        device.evicted,
        registered_at=format_time(device.registered_at),
        last_seen_at=format_time(device.seen_at),
        evicted_at=_time(found.evicted_at),
    )


def _past(one: PastPush) -> messages.PastPush:
    return messages.PastPush(
        push_key=one.push_key,
        push_id=one.push_id,
        provider=one.platform,
        status=one.status,
        attempts=one.attempts,
        created_at=format_time(int(one.created_at)),
        error=one.error,
        ended_at=_time(one.ended_at),
        next_attempt_at=_time(one.due or None) if one.status == "queued" else None,
    )


def _time(seconds: float | None) -> str | None:
    return None if seconds is None else format_time(int(seconds))
