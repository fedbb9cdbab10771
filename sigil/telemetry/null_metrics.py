"""The metrics of a server that counts nothing (SIGIL_TELEMETRY=none). Does not import prometheus_client."""

from __future__ import annotations

from sigil.core.approvals.approval import Approval
from sigil.core.challenge import Challenge
from sigil.protocol.errors import Problem


class NullMetrics:
    """Replaces `sigil.telemetry.metrics.Metrics`."""

    http = None

    def challenge(self, event: str, challenge: Challenge) -> None: ...

    def approval(self, event: str, approval: Approval) -> None: ...

    def enrolment(self, event: str) -> None: ...

    def problem(self, error: Problem) -> None: ...

    def android_status(self, age: object) -> None: ...

    def pushes(self) -> NullDeliveryMetrics:
        return NullDeliveryMetrics()

    def webhooks(self) -> NullDeliveryMetrics:
        return NullDeliveryMetrics()

    def attestations(self) -> NullAttestationMetrics:
        return NullAttestationMetrics()


class NullDeliveryMetrics:
    """Replaces `PushMetrics` and `WebhookMetrics`."""

    def completed(self, completion: object) -> None: ...


class NullAttestationMetrics:
    """Replaces `AttestationMetrics`."""

    def issued(self, kind: str, *, renewal: bool) -> None: ...

    def rejected(self, kind: str, reason: str) -> None: ...
