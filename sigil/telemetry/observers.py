"""The observers that services and loops call: each writes the event log and counts metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sigil.attestation.observer import Use
from sigil.core.approvals.approval import Approval
from sigil.core.challenge import Challenge
from sigil.core.enrolment.row import Enrolment
from sigil.core.pushes.delivery import Completion
from sigil.core.session_observer import SessionObserver
from sigil.core.webhooks import delivery as webhook_delivery
from sigil.protocol.device_credential import Payload
from sigil.telemetry import event_log
from sigil.telemetry.null_metrics import NullAttestationMetrics, NullDeliveryMetrics, NullMetrics

if TYPE_CHECKING:
    # Not at run time: the master imports this module, and only workers may import metrics (see `metrics_memory`).
    from sigil.telemetry.metrics import AttestationMetrics, Metrics, PushMetrics, WebhookMetrics


class SessionTelemetry:
    """The SessionObserver of a worker; `observer` is the event log, which tests replace."""

    def __init__(self, observer: SessionObserver, metrics: Metrics | NullMetrics) -> None:
        self._observer = observer
        self._metrics = metrics

    def challenge(self, event: str, challenge_id: bytes, challenge: Challenge) -> None:
        self._metrics.challenge(event, challenge)
        self._observer.challenge(event, challenge_id, challenge)

    def approval(self, event: str, mpa_id: bytes, approval: Approval, device: bytes | None = None) -> None:
        self._metrics.approval(event, approval)
        self._observer.approval(event, mpa_id, approval, device)

    def enrolment(self, event: str, enrolment_id: bytes, enrolment: Enrolment) -> None:
        self._metrics.enrolment(event)
        self._observer.enrolment(event, enrolment_id, enrolment)


class PushTelemetry(event_log.PushEventLog):
    """The PushObserver and BreakerObserver of the relay."""

    def __init__(self, metrics: PushMetrics | NullDeliveryMetrics, relay_url: str) -> None:
        super().__init__(relay_url)
        self._metrics = metrics

    def completed(self, completion: Completion) -> None:
        self._metrics.completed(completion)
        super().completed(completion)


class WebhookTelemetry(event_log.WebhookEventLog):
    """The WebhookObserver and BreakerObserver of the webhook receiver."""

    def __init__(self, metrics: WebhookMetrics | NullDeliveryMetrics) -> None:
        self._metrics = metrics

    def completed(self, completion: webhook_delivery.Completion) -> None:
        self._metrics.completed(completion)
        super().completed(completion)


class AttestationTelemetry(event_log.AttestationEventLog):
    """The AttestationObserver of a worker; `metrics` is None where no kind is accepted."""

    def __init__(self, metrics: AttestationMetrics | NullAttestationMetrics | None) -> None:
        super().__init__()
        self._metrics = metrics or NullAttestationMetrics()

    def issued(self, use: Use, payload: Payload, *, renewal: bool) -> None:
        self._metrics.issued(payload.kind, renewal=renewal)
        super().issued(use, payload, renewal=renewal)

    def rejected(self, use: Use, fingerprint: str, kind: str, reason: str, check: str) -> None:
        self._metrics.rejected(kind, reason)
        super().rejected(use, fingerprint, kind, reason, check)
