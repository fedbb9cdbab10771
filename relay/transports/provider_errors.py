"""What the error responses of both providers have in common."""

from __future__ import annotations

import re

MAX_RETRY_AFTER = 600.0
_ERROR_CODE = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}\Z")


def error_code(reported: str | None, status: str) -> str:
    """The provider's error code if it has the form of one: it goes into logs, metrics and responses to integrators."""
    return reported if reported and _ERROR_CODE.match(reported) else f"http_{status}"


def retry_after_seconds(header: bytes | None, default: float) -> float:
    """Retry-After in seconds. A date, which push providers do not send, gives the default."""
    if header is None or not header.isdigit() or len(header) > 9:
        return default
    return min(float(header), MAX_RETRY_AFTER)
