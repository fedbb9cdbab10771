"""The webhook events in the OpenAPI description (docs/protocol.md, 5.4)."""

from __future__ import annotations

from typing import Any

from sigil.protocol.messages.webhooks import EventType

_SUMMARIES: dict[EventType, str] = {
    "challenge.verified": "The device approved.",
    "challenge.rejected": "The device rejected, or a wrong match code was sent too often.",
    "challenge.expired": "The device did not answer in time.",
    "mpa.approved": "Enough groups approved.",
    "mpa.rejected": "Too few groups can still approve, or the first rejection ended the request.",
    "mpa.timeout": "The members did not decide in time.",
    "enrolment.completed": "The device is enrolled: device_public_key is its key.",
    "enrolment.failed": "A wrong code was sent too often.",
    "enrolment.expired": "The enrolment was not completed and confirmed in time.",
}
_HEADERS = {
    "webhook-id": "The id of the event, the same in every attempt.",
    "webhook-timestamp": "Unix seconds of the attempt. Reject one that is more than 300 s off.",
    "webhook-signature": "`v1,` and base64 of HMAC-SHA-256 over `id.timestamp.body`: Standard Webhooks.",
    "X-Sigil-Timestamp": "Unix seconds of the attempt. Reject one that is more than 300 s off.",
    "X-Sigil-Signature": "`v1,` and hex of HMAC-SHA-256 over `timestamp.body`. One of the two signatures is enough.",
}
_OPTIONAL_HEADERS = {"traceparent": "W3C Trace Context, where the challenge is in a sampled trace of the server."}
_ANSWERS = {
    "2XX": "Delivered.",
    "408": "Retried on the schedule, like network errors.",
    "425": "Retried on the schedule.",
    "429": "Retried on the schedule.",
    "5XX": "Retried on the schedule.",
    "default": "Given up: `sigil webhook replay` sends it again.",
}


def webhooks(body: Any, enrolment: Any) -> dict[str, Any]:
    """The `webhooks` of OpenAPI 3.1; the schemas of an event, and of one of an enrolment."""
    return {
        event: {"post": _described(event, summary, enrolment if event.startswith("enrolment.") else body)}
        for event, summary in _SUMMARIES.items()
    }


def _described(event: EventType, summary: str, body: Any) -> dict[str, Any]:
    kind, _, status = event.partition(".")
    return {
        "operationId": f"{kind}{status.capitalize()}",
        "summary": summary,
        # The signatures are in the headers: OpenAPI has no security scheme for that.
        "security": [],
        "parameters": [
            {
                "name": name,
                "in": "header",
                "required": name in _HEADERS,
                "description": text,
                "schema": {"type": "string"},
            }
            for name, text in (_HEADERS | _OPTIONAL_HEADERS).items()
        ],
        "requestBody": {"required": True, "content": {"application/json": {"schema": body}}},
        "responses": {code: {"description": text} for code, text in _ANSWERS.items()},
    }
