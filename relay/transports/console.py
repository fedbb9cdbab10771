"""Pushes as log lines, for development without credentials (RELAY_PUSH_CONSOLE=true)."""

from __future__ import annotations

import msgspec

from relay.transports import Load, Outcome, OutgoingPush
from sigil.serving import logs


class _Shown(msgspec.Struct):
    type: str = ""
    challenge_id: str = ""
    mpa_id: str = ""


_decode = msgspec.json.Decoder(_Shown).decode


class ConsoleTransport:
    """Says what would have been sent; the payload itself, which only the person should read, stays out."""

    def open(self) -> None:
        return None

    def load(self) -> Load:
        return Load()

    async def send(self, letter: OutgoingPush) -> Outcome:
        shown = _decode(letter.payload)
        logs.info(
            "push_console",
            push_id=letter.push_id,
            fingerprint=logs.short(letter.fingerprint),
            type=shown.type,
            id=shown.challenge_id or shown.mpa_id,
        )
        return Outcome("delivered")

    async def close(self) -> None:
        return None
