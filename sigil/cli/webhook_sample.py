"""An event for receivers to try themselves on: as the server writes them, about a challenge that never was."""

from __future__ import annotations

import os
import time

import msgspec

from sigil.protocol.encoding import format_time
from sigil.protocol.ids import uuid4_bytes
from sigil.protocol.webhook_event import EventBody, event_id


def sample() -> tuple[str, bytes]:
    """Its id and its body. It says "expired", so that no receiver lets anything happen on it."""
    ended_id = uuid4_bytes(os.urandom(16))
    event = EventBody(
        id=event_id(ended_id),
        type="challenge.expired",
        status="expired",
        timestamp=format_time(int(time.time())),
        key_id="00000000",
        action_type="sigil.webhook_test",
        challenge_id=event_id(ended_id).removeprefix("evt_"),
        fingerprint="0" * 64,
    )
    return event.id, msgspec.json.encode(event)
