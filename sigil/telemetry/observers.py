"""What happens is written down, and counted where there is somebody to ask."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sigil.core import webhook_delivery
from sigil.core.approval import Approval
from sigil.core.challenge import Challenge
from sigil.core.push_delivery import Completion
from sigil.core.session_observer import SessionObserver
from sigil.telemetry import event_log

if TYPE_CHECKING:
    # Not at run time: the master imports this, and only workers may import metrics (see `serving.places`).
    from sigil.telemetry.metrics import Metrics, PushMetrics, WebhookMetrics


class SessionTelemetry:
    """Of challenges and requests."""

    def __init__(self, journal: SessionObserver, metrics: Metrics | None) -> None:
        self._journal = journal
        self._metrics = metrics

    def challenge(self, event: str, challenge_id: bytes, challenge: Challenge) -> None:
        if self._metrics:
            self._metrics.challenge(event, challenge)
        self._journal.challenge(event, challenge_id, challenge)

    def approval(self, event: str, mpa_id: bytes, approval: Approval, device: bytes | None = None) -> None:
        if self._metrics:
            self._metrics.approval(event, approval)
        self._journal.approval(event, mpa_id, approval, device)


class PushTelemetry(event_log.PushEventLog):
    """Of pushes."""

    def __init__(self, metrics: PushMetrics | None) -> None:
        self._metrics = metrics

    def completed(self, completion: Completion) -> None:
        if self._metrics:
            self._metrics.completed(completion)
        super().completed(completion)

    def set_up(self, up: bool) -> None:
        if self._metrics:
            self._metrics.set_up(up)


class WebhookTelemetry(event_log.WebhookEventLog):
    """Of webhooks."""

    def __init__(self, metrics: WebhookMetrics | None) -> None:
        self._metrics = metrics

    def completed(self, completion: webhook_delivery.Completion) -> None:
        if self._metrics:
            self._metrics.completed(completion)
        super().completed(completion)

    def set_up(self, up: bool) -> None:
        if self._metrics:
            self._metrics.set_up(up)
