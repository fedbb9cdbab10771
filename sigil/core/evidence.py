"""What a credential attests, as rows and events keep it: those without one stay as small as before."""

from __future__ import annotations

from typing import Any

import msgspec

from sigil.protocol.device_credential import Payload
from sigil.protocol.encoding.text import format_time
from sigil.protocol.messages.attestation import AttestationSummary


class Evidence(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """`attested_at` in Unix seconds. The others are the texts of the wire."""

    kind: str
    level: str
    binding: str
    attested_at: int

    @property
    def summary(self) -> AttestationSummary:
        """For status responses, votes and webhook events."""
        kind: Any = self.kind
        level: Any = self.level
        binding: Any = self.binding
        return AttestationSummary(kind, level, binding, format_time(self.attested_at))


def evidence_of(payload: Payload) -> Evidence:
    return Evidence(payload.kind, payload.level, payload.binding, payload.attested_at)
