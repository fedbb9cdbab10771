"""The events that the server posts to an integrator, for the description of the interface (docs/protocol.md, 5.4)."""

from __future__ import annotations

from typing import Any

from sigil.protocol.webhook_event import EventType

_SUMMARIES: dict[EventType, str] = {
    "challenge.verified": "The device approved.",
    "challenge.rejected": "The device rejected, or a wrong code was given too often.",
    "challenge.expired": "The device did not answer in time.",
    "mpa.approved": "Enough groups approved.",
    "mpa.rejected": "Enough groups can approve no more, or the first rejection ended it.",
    "mpa.timeout": "The members did not decide in time.",
}
_HEADERS = {
    "webhook-id": "The id of the event, the same in every attempt.",
    "webhook-timestamp": "Unix seconds of the attempt. Refuse one that is more than 300 s off.",
    "webhook-signature": "`v1,` and base64 of HMAC-SHA-256 over `id.timestamp.body`: Standard Webhooks.",
    "X-Sigil-Timestamp": "Unix seconds of the attempt. Refuse one that is more than 300 s off.",
    "X-Sigil-Signature": "`v1,` and hex of HMAC-SHA-256 over `timestamp.body`. One of the two signatures is enough.",
}
_ANSWERS = {
    "2XX": "Taken.",
    "408": "Tried again by the schedule, as are the next two, and errors of the network.",
    "425": "Tried again by the schedule.",
    "429": "Tried again by the schedule.",
    "5XX": "Tried again by the schedule.",
    "default": "Given up: `sigil webhook replay` tries it anew.",
}


def webhooks(body: Any) -> dict[str, Any]:
    """The `webhooks` of OpenAPI 3.1; `body` is the schema of an event."""
    return {event: {"post": _described(event, summary, body)} for event, summary in _SUMMARIES.items()}


def _described(event: EventType, summary: str, body: Any) -> dict[str, Any]:
    kind, _, status = event.partition(".")
    return {
        "operationId": f"{kind}{status.capitalize()}",
        "summary": summary,
        # The signatures stand in its headers: there is no scheme for that.
        "security": [],
        "parameters": [
            {"name": name, "in": "header", "required": True, "description": text, "schema": {"type": "string"}}
            for name, text in _HEADERS.items()
        ],
        "requestBody": {"required": True, "content": {"application/json": {"schema": body}}},
        "responses": {code: {"description": text} for code, text in _ANSWERS.items()},
    }
