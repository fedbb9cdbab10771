"""Pushes as log lines, for development without credentials (RELAY_PUSH_CONSOLE=true)."""

from __future__ import annotations

import msgspec

from relay.transports import Load, Outcome, OutgoingPush
from sigil.serving import logs


class _Logged(msgspec.Struct):
    type: str = ""
    challenge_id: str = ""
    mpa_id: str = ""


_decode = msgspec.json.Decoder(_Logged).decode


class ConsoleTransport:
    """Logs each push without its payload, which is for the device's owner only."""

    def open(self) -> None:
        return None

    def load(self) -> Load:
        return Load()

    async def send(self, push: OutgoingPush) -> Outcome:
        logged = _decode(push.payload)
        logs.info(
            "push_console",
            push_id=push.push_id,
            fingerprint=logs.short(push.fingerprint),
            type=logged.type,
            id=logged.challenge_id or logged.mpa_id,
        )
        return Outcome("delivered")

    async def close(self) -> None:
        return None
