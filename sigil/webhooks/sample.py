"""A sample event to test receivers with: in the form of the server's events, for a challenge that does not exist."""

from __future__ import annotations

import os
import time

import msgspec

from sigil.protocol.encoding.ids import uuid4_bytes
from sigil.protocol.encoding.text import format_time
from sigil.protocol.messages.webhooks import EventBody, event_id


def sample() -> tuple[str, bytes]:
    """The event's id and its body. Its type is challenge.expired, so that no receiver acts on it."""
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
