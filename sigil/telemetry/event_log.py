"""What services report, as log lines (docs/operations.md)."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable

from sigil.attestation.observer import Use
from sigil.core.approvals.approval import Approval
from sigil.core.challenge import Challenge
from sigil.core.enrolment.row import Enrolment
from sigil.core.pushes import delivery as push_delivery
from sigil.core.pushes.subject import device_of, id_of, is_member
from sigil.core.webhooks import delivery as webhook_delivery
from sigil.core.webhooks.event import type_of_event
from sigil.protocol.action import action_type
from sigil.protocol.api_key import Caller
from sigil.protocol.device_credential import Payload
from sigil.protocol.encoding.ids import format_uuid
from sigil.protocol.messages.webhooks import event_id
from sigil.serving import logs
from sigil.serving.bounded_counts import BoundedCounts
from sigil.serving.http.asgi_edge import request_id

_MESSAGES = {
    "challenge_expired": "challenge expired before response",
    "mpa_timeout": "approval request timed out before its quorum",
    "enrolment_expired": "the enrolment expired before it was complete and confirmed",
    "enrolment_failed": "the third wrong code ended the enrolment: another person may have used its link",
    "enrolment_claim_refused": "a second device used the link or the claim of an enrolment: the first claim counts",
    "not_registered": "Push notification failed: 404 device not found",
    "token_evicted": "Push notification failed: 410 push token evicted",
    "rate_limited": "Push notification failed: 429 too many for this device; the push is retried",
    "failed": "Push notification failed",
}
_LEVELS = {
    "signature_failed": "warn",
    "replay_blocked": "warn",
    "mpa_signature_failed": "warn",
    "mpa_replay_blocked": "warn",
    "attestation_rejected": "warn",
    "enrolment_claim_refused": "warn",
    "enrolment_failed": "warn",
    "enrolment_signature_failed": "warn",
    "enrolment_wrong_code": "warn",
}


_RELAY_HINTS = {
    "401": ": the relay rejects this server; server_request_rejected in the relay's log has the reason",
    "404": ": another program or a wrong path answers there",
    "429": ": the relay limits requests of this server or address",
}
# Per worker, about 1 MB: challenges and members whose rejected answers are counted.
_MAX_REJECTED = 4096
REJECTIONS_PER_MINUTE = 30
"""Lines of one worker about attestations that it rejected."""


class SessionEventLog:
    """One line for each event of a challenge, approval request or enrolment; of repeated rejections the first, tenth,
    hundredth, … with their `count`. One used answer that was sent 3000 times wrote 752 KiB.
    """

    def __init__(self) -> None:
        self._rejected = BoundedCounts(_MAX_REJECTED)

    def challenge(self, event: str, challenge_id: bytes, challenge: Challenge) -> None:
        if not logs.enabled(_LEVELS.get(event, "info")):
            return
        count = self._count(event, challenge_id)
        if count is None:
            return
        fields: dict[str, object] = {
            "challenge_id": format_uuid(challenge_id),
            "fingerprint": _short_fingerprint(challenge.public_key),
            **_action_and_owner(challenge),
        }
        if challenge.reason:
            fields["reason"] = challenge.reason
        _report(event, fields | count)

    def approval(self, event: str, mpa_id: bytes, approval: Approval, device: bytes | None = None) -> None:
        """`mpa_request_id` is the integrator's name for the request; `device` is a member's public key."""
        if not logs.enabled(_LEVELS.get(event, "info")):
            return
        count = self._count(event, mpa_id + (device or b""))
        if count is None:
            return
        fields: dict[str, object] = {
            "mpa_id": format_uuid(mpa_id),
            "mpa_request_id": approval.request_id,
            "groups_satisfied": len(approval.satisfied_groups),
            "groups_required": approval.required,
            **_action_and_owner(approval),
        }
        if device is not None:
            fields["fingerprint"] = _short_fingerprint(device)
        _report(event, fields | count)

    def enrolment(self, event: str, enrolment_id: bytes, enrolment: Enrolment) -> None:
        """Without the account, which may name a person."""
        if not logs.enabled(_LEVELS.get(event, "info")):
            return
        count = self._count(event, enrolment_id)
        if count is None:
            return
        fields: dict[str, object] = {
            "enrolment_id": format_uuid(enrolment_id),
            "confirm": enrolment.confirm,
            "key_id": Caller(enrolment.owner).key_id,
        }
        if enrolment.completion is not None:
            fields["fingerprint"] = _short_fingerprint(enrolment.completion.public_key)
        if enrolment.replaces:
            fields["replaces"] = _short_fingerprint(enrolment.replaces)
        if enrolment.reason:
            fields["reason"] = enrolment.reason
        _report(event, fields | count)

    def _count(self, event: str, name: bytes) -> dict[str, object] | None:
        """The fields that a line has for its number; None for no line."""
        if event not in _LEVELS:
            return {}
        return _repeats(self._rejected.add((event, name)))


def _repeats(count: int) -> dict[str, object] | None:
    """The fields that the line of a repetition has; None for no line."""
    if count == 1:
        return {}
    return {"count": count} if re.fullmatch("10+", str(count)) else None


def _action_and_owner(subject: Challenge | Approval) -> dict[str, object]:
    return {"action_type": action_type(subject.action), "key_id": Caller(subject.owner).key_id}


def _report(event: str, fields: dict[str, object]) -> None:
    if current := request_id.get():
        fields["request_id"] = current
    if event in _MESSAGES:
        fields["message"] = _MESSAGES[event]
    logs.report(_LEVELS.get(event, "info"), event, fields)


class AttestationEventLog:
    """One line for each credential that is issued; of repeated rejections the first, tenth, hundredth, …

    Any client can make keys and attest them without end, as can one that claimed an enrolment: of these rejections
    REJECTIONS_PER_MINUTE are logged, and the next line has the number of the others as `suppressed`. `monotonic` gives
    seconds.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._rejected = BoundedCounts(_MAX_REJECTED)
        self._monotonic = monotonic
        self._minute = self._lines = self._suppressed = 0

    def issued(self, use: Use, payload: Payload, *, renewal: bool) -> None:
        fields: dict[str, object] = {"use": use, "fingerprint": logs.short(payload.fingerprint), "kind": payload.kind}
        fields |= {"level": payload.level, "binding": payload.binding}
        _report("attestation_renewed" if renewal else "attestation_issued", fields)

    def rejected(self, use: Use, fingerprint: str, kind: str, reason: str, check: str) -> None:
        count = _repeats(self._rejected.add((use, fingerprint, reason, check)))
        # An approval is of a device that an integrator named; the keys of the others are new without end.
        limited = use != "approval"
        if count is None or (limited and not self._may_log()):
            return
        if self._suppressed and limited:
            count, self._suppressed = count | {"suppressed": self._suppressed}, 0
        fields: dict[str, object] = {"use": use, "fingerprint": logs.short(fingerprint), "reason": reason}
        fields |= {"check": check} | count
        _report("attestation_rejected", fields | {"kind": kind} if kind else fields)

    def _may_log(self) -> bool:
        minute = int(self._monotonic() // 60)
        if minute != self._minute:
            self._minute, self._lines = minute, 0
        self._lines += 1
        if self._lines > REJECTIONS_PER_MINUTE:
            self._suppressed += 1
        return self._lines <= REJECTIONS_PER_MINUTE


class PushEventLog:
    """Pushes and the relay at `relay_url`. One line when an outage begins or its reason changes and one when it ends,
    none for each push in it.
    """

    def __init__(self, relay_url: str) -> None:
        self._relay_url = relay_url

    def completed(self, completion: push_delivery.Completion) -> None:
        error = completion.push.error
        name = completion.claim[0]
        if completion.subject is None or completion.push is completion.before or error not in _MESSAGES:
            return
        logs.warn(
            "push_failed",
            **{"mpa_id" if is_member(name) else "challenge_id": format_uuid(id_of(name))},
            fingerprint=_short_fingerprint(device_of(name, completion.subject)),
            error=error,
            message=_MESSAGES[error],
        )

    def rejected(self, reason: str) -> None:
        logs.error(
            "push_refused",
            reason=reason,
            message="the relay rejects a request; the versions of server and relay may be incompatible",
        )

    def opened(self, reason: str, starting: bool) -> None:
        hint = _RELAY_HINTS.get(reason, "")
        # What answered with a status has started.
        if starting and not hint:
            hint = "; it may still be starting"
        logs.report(
            "warn" if starting else "error",
            "relay_unreachable",
            {
                "reason": reason,
                "address": self._relay_url,
                "message": f"Failed to connect to relay at the address of RELAY_URL{hint}",
            },
        )

    def closed(self, seconds: float) -> None:
        logs.info("relay_recovered", seconds=round(seconds, 1), message="the relay is reachable; pushes are sent again")


class WebhookEventLog:
    """Webhook events and their receiver. One line when an outage begins, when its reason changes, when it ends, and for
    each event given up.
    """

    def completed(self, completion: webhook_delivery.Completion) -> None:
        if completion.outcome != "failure":
            return
        name, event = completion.claim
        logs.warn(
            "webhook_failed",
            event_id=event_id(name),
            type=type_of_event(event),
            reason=str(completion.result),
            tries=event.tries + 1,
            message="the event was given up; `sigil webhook replay` sends it again",
        )

    def opened(self, reason: str, starting: bool) -> None:
        logs.error(
            "webhook_unreachable",
            reason=reason,
            message="the webhook receiver is unreachable; events wait until it answers again",
        )

    def closed(self, seconds: float) -> None:
        logs.info(
            "webhook_recovered",
            seconds=round(seconds, 1),
            message="the webhook receiver is reachable; events are sent again",
        )


def _short_fingerprint(public_key: bytes) -> str:
    return logs.short(hashlib.sha256(public_key).hexdigest())
