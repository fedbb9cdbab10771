"""What providers' answers have in common."""

from __future__ import annotations

import re

MAX_RETRY_AFTER = 600.0
_WORD = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}\Z")


def word(said: str | None, status: str) -> str:
    """What the provider said, if it is a word: it goes into logs, metrics and answers to integrators."""
    return said if said and _WORD.match(said) else f"http_{status}"


def seconds_of(retry_after: bytes | None, default: float) -> float:
    """Of a Retry-After header in seconds; a date, which push providers do not send, is not understood."""
    if retry_after is None or not retry_after.isdigit() or len(retry_after) > 9:
        return default
    return min(float(retry_after), MAX_RETRY_AFTER)
