"""What sigil counts (docs/operations.md). To be imported in workers alone, and made once in a process."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import get_args

from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.metrics_core import Metric

from sigil.core import webhook_delivery
from sigil.core.approval import APPROVAL, Approval
from sigil.core.challenge import CHALLENGE, Challenge
from sigil.core.push_delivery import Completion
from sigil.core.push_outbox import OUTBOX, Step
from sigil.core.session_store import SessionStore
from sigil.core.webhook_delivery import FAILURE, Outcome
from sigil.core.webhook_event import EVENT
from sigil.protocol.errors import Limit, Problem, Retryable
from sigil.protocol.relay_messages import PushStatus
from sigil.serving.http.bearer_token import BearerTokenGuard
from sigil.serving.http.metrics import HttpMetrics, MetricsResource, Scrape, gauge

_STATUS = {
    "challenge_created": "created",
    "challenge_verified": "verified",
    "challenge_rejected": "rejected",
    "challenge_expired": "expired",
    "challenge_cancelled": "cancelled",
    "replay_blocked": "replay_blocked",
    "signature_failed": "signature_failed",
}
_MPA_STATUS = {
    "mpa_created": "created",
    "mpa_vote": "vote",
    "mpa_approved": "approved",
    "mpa_rejected": "rejected",
    "mpa_timeout": "timeout",
    "mpa_cancelled": "cancelled",
    "mpa_replay_blocked": "replay_blocked",
    "mpa_signature_failed": "signature_failed",
}
_DECIDED = frozenset({"mpa_approved", "mpa_rejected"})
# What the relay does not say: it did not answer, or it was told to take a notification away.
_OF_SIGIL = ("relay_unreachable", "cleared")
_ANSWERED = frozenset({"challenge_verified", "challenge_rejected"})


class Metrics:
    """The instruments of this process, and the resource that shows those of all, which count in `directory`.

    `clock` gives Unix seconds.
    """

    def __init__(
        self,
        store: SessionStore,
        *,
        version: str,
        directory: Path,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._clock = clock
        self.http = HttpMetrics("sigil")
        self._scrape = Scrape("sigil", version, directory, self._of_store)
        challenges = Counter("sigil_challenges", "What happened to challenges.", ["status"], registry=None)
        requests = Counter("sigil_mpa_requests", "What happened to multi-party requests.", ["status"], registry=None)
        limited = Counter("sigil_rate_limited", "Requests refused for a limit.", ["limit"], registry=None)
        # All from the start, so that a rate is there before the first event.
        self._of_event = {event: challenges.labels(status) for event, status in _STATUS.items()}
        self._of_mpa_event = {event: requests.labels(status) for event, status in _MPA_STATUS.items()}
        self._of_limit = {limit: limited.labels(limit) for limit in get_args(Limit)}
        self._duration = Histogram(
            "sigil_challenge_duration_seconds",
            "From the creation of a challenge to the device's answer.",
            buckets=(0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300),
            registry=None,
        )
        self._mpa_duration = Histogram(
            "sigil_mpa_duration_seconds",
            "From the creation of a multi-party request to the vote that decided it.",
            buckets=(0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300, 600, 900),
            registry=None,
        )
        self._waiting = Gauge(
            "sigil_long_polls", "Requests that wait for a result.", multiprocess_mode="livesum", registry=None
        )

    def resource(self, door: BearerTokenGuard) -> MetricsResource:
        return MetricsResource(self._scrape, door)

    def challenge(self, event: str, challenge: Challenge) -> None:
        self._of_event[event].inc()
        if event in _ANSWERED:
            self._duration.observe(max(0.0, self._clock() - challenge.created_ms / 1000))

    def approval(self, event: str, approval: Approval) -> None:
        self._of_mpa_event[event].inc()
        if event in _DECIDED:
            self._mpa_duration.observe(max(0.0, self._clock() - approval.created_ms / 1000))

    def problem(self, error: Problem) -> None:
        """Counts an answer that was a refusal for a limit."""
        if isinstance(error, Retryable) and error.limit:
            self._of_limit[error.limit].inc()

    def pushes(self) -> PushMetrics:
        """The instruments of pushes: only where there are any."""
        return PushMetrics(self._clock)

    def webhooks(self) -> WebhookMetrics:
        """The same for webhooks."""
        return WebhookMetrics(self._clock)

    def waiting(self, count: int) -> None:
        self._waiting.set(count)

    def _of_store(self) -> Iterator[Metric]:
        """What the store knows at the time of the scrape."""
        usage = self._store.usage()
        yield gauge("sigil_challenges_pending", "Challenges that wait for their device.", self._store.count(CHALLENGE))
        yield gauge("sigil_mpa_pending", "Multi-party requests that wait for votes.", self._store.count(APPROVAL))
        yield gauge("sigil_push_outbox", "Pushes, clears and questions that are not done.", self._store.count(OUTBOX))
        yield gauge("sigil_webhook_outbox", "Events that are not delivered.", self._store.count(EVENT))
        yield gauge("sigil_webhook_failures", "Events that were given up and are kept.", self._store.count(FAILURE))
        yield gauge("sigil_store_bytes", "Bytes in use in the session store.", usage.used)
        yield gauge("sigil_store_size_bytes", "Bytes that the session store has.", usage.size)


class PushMetrics:
    """What became of pushes, how soon the relay took them, and whether it is there."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        pushes = Counter("sigil_push", "What became of pushes.", ["status"], registry=None)
        self._of_status = {status: pushes.labels(status) for status in (*get_args(PushStatus), *_OF_SIGIL)}
        self._duration = Histogram(
            "sigil_push_duration_seconds",
            "From the creation of a challenge to the relay's taking its push.",
            buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300),
            registry=None,
        )
        self._up = Gauge("sigil_relay_up", "1 while the relay answers.", multiprocess_mode="livemin", registry=None)

    def completed(self, completion: Completion) -> None:
        step, result, subject = completion.claim[1].step, completion.result, completion.subject
        if step is Step.CLEAR:
            if result not in {"relay_unreachable", "ended"}:
                self._of_status["cleared"].inc()
        elif completion.push is not completion.before or (step is Step.PUSH and result == "queued"):
            self._of_status[result].inc()
        if step is Step.PUSH and result in {"delivered", "queued"} and subject is not None:
            self._duration.observe(max(0.0, self._clock() - subject.created_ms / 1000))

    def set_up(self, up: bool) -> None:
        self._up.set(up)


class WebhookMetrics:
    """What attempts came to, how long after the event it was delivered, and whether the receiver is there."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        deliveries = Counter("sigil_webhook_deliveries", "What attempts came to.", ["status"], registry=None)
        self._of_outcome = {outcome: deliveries.labels(outcome) for outcome in get_args(Outcome)}
        self._duration = Histogram(
            "sigil_webhook_duration_seconds",
            "From an event to its delivery.",
            buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600),
            registry=None,
        )
        self._up = Gauge(
            "sigil_webhook_up", "1 while the webhook receiver answers.", multiprocess_mode="livemin", registry=None
        )

    def completed(self, completion: webhook_delivery.Completion) -> None:
        self._of_outcome[completion.outcome].inc()
        if completion.outcome == "success":
            self._duration.observe(max(0.0, self._clock() - completion.claim[1].since_ms / 1000))

    def set_up(self, up: bool) -> None:
        self._up.set(up)
