"""The metrics of the server (docs/observability.md). Only workers import this module, and each creates Metrics once."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any, get_args

from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.metrics_core import GaugeMetricFamily, Metric

from sigil.core import circuit_breaker
from sigil.core.approvals.approval import APPROVAL, Approval
from sigil.core.challenge import CHALLENGE, Challenge
from sigil.core.circuit_breaker import RECEIVER_KEY, RELAY_KEY
from sigil.core.enrolment.row import ENROLMENT
from sigil.core.pushes.delivery import Completion
from sigil.core.pushes.outbox import OUTBOX, Push, Step
from sigil.core.session_store import Key, Kind, SessionStore
from sigil.core.store_capacity import BYTES_PER_END, BYTES_PER_END_WITHOUT_EVENT, free_for_creations
from sigil.core.webhooks import delivery as webhook_delivery
from sigil.core.webhooks.delivery import FAILURE, Outcome
from sigil.core.webhooks.event import EVENT
from sigil.protocol.errors import ATTESTATION_REASONS, Limit, Problem, Retryable
from sigil.protocol.messages.attestation import KINDS
from sigil.protocol.messages.relay import PushStatus
from sigil.serving.http.metrics import HttpMetrics, MetricsResource, Scrape, gauge
from sigil.serving.http.metrics_access import MetricsGuard
from sigil.serving.process.metrics_memory import MetricsMemory
from sigil.serving.process.proc_stats import start_of_master
from sigil.serving.watchdog.process_table import Peer, ProcessFigures

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
_ENROLMENT_RESULT = {
    "enrolment_begun": "begun",
    "enrolment_claimed": "claimed",
    "enrolment_confirming": "confirming",
    "enrolment_enrolled": "enrolled",
    "enrolment_failed": "failed",
    "enrolment_expired": "expired",
    "enrolment_cancelled": "cancelled",
    "enrolment_wrong_code": "wrong_code",
    "enrolment_claim_refused": "claim_refused",
    "enrolment_signature_failed": "signature_failed",
}
_DECIDED = frozenset({"mpa_approved", "mpa_rejected"})
# Statuses that are no status of the relay: it did not respond, or it cleared a notification.
_OWN_STATUSES = ("relay_unreachable", "cleared")
_ANSWERED = frozenset({"challenge_verified", "challenge_rejected"})
# Rows of an outbox that a scrape reads: those that are due first, of all owners in turn.
_LOOKED_AT = 100


class InitMetrics:
    """The metrics of a server in init mode. Its HTTP metrics go on in `Metrics` after the handover."""

    def __init__(
        self,
        *,
        version: str,
        memory: MetricsMemory | None,
        processes: Callable[[], ProcessFigures] | None = None,
    ) -> None:
        self.http = HttpMetrics("sigil")
        self._scrape = Scrape("sigil", version, memory, lambda: [_mode("init")], processes)

    def resource(self, guard: MetricsGuard) -> MetricsResource:
        return MetricsResource(self._scrape, guard)


class Metrics:
    """The instruments of this process, which count in `memory`, and the resource that sums up all processes.

    `clock` gives Unix seconds; `run` is that of the circuit breakers; `http` are those of init mode, if it came before.
    """

    def __init__(
        self,
        store: SessionStore,
        *,
        version: str,
        memory: MetricsMemory | None,
        processes: Callable[[], ProcessFigures] | None = None,
        http: HttpMetrics | None = None,
        clock: Callable[[], float] = time.time,
        run: int | None = None,
    ) -> None:
        self._store = store
        self._clock = clock
        self._run = start_of_master() if run is None else run
        self._breakers: list[tuple[str, str, Key]] = []
        self._bytes_per_end = BYTES_PER_END_WITHOUT_EVENT
        self._android_status_age: Callable[[float], float] | None = None
        self._processes = processes
        # One object in a process: two that count in the same place would overwrite each other's counts.
        self.http = http or HttpMetrics("sigil")
        self._scrape = Scrape("sigil", version, memory, self._read, processes)
        challenges = Counter("sigil_challenges", "Challenges by event.", ["status"], registry=None)
        requests = Counter("sigil_mpa_requests", "Approval requests by event.", ["status"], registry=None)
        enrolments = Counter("sigil_enrolments", "Enrolments by event.", ["result"], registry=None)
        limited = Counter("sigil_rate_limited", "Requests rejected because of a limit.", ["limit"], registry=None)
        # All labels from the start, so that a rate exists before the first event.
        self._of_event = {event: challenges.labels(status) for event, status in _STATUS.items()}
        self._of_mpa_event = {event: requests.labels(status) for event, status in _MPA_STATUS.items()}
        self._of_enrolment = {event: enrolments.labels(result) for event, result in _ENROLMENT_RESULT.items()}
        self._of_limit = {limit: limited.labels(limit) for limit in get_args(Limit)}
        self._duration = Histogram(
            "sigil_challenge_duration_seconds",
            "From the creation of a challenge to the response of the device.",
            buckets=(0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300),
            registry=None,
        )
        self._mpa_duration = Histogram(
            "sigil_mpa_duration_seconds",
            "From the creation of an approval request to the vote that decided it.",
            buckets=(0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300, 600, 900),
            registry=None,
        )
        self._long_polls = Gauge(
            "sigil_long_polls", "Long polls that wait now.", multiprocess_mode="livesum", registry=None
        )
        self._refused_long_polls = Counter(
            "sigil_long_polls_refused", "Long polls answered at once because of a limit.", registry=None
        )

    def resource(self, guard: MetricsGuard) -> MetricsResource:
        return MetricsResource(self._scrape, guard)

    def challenge(self, event: str, challenge: Challenge) -> None:
        self._of_event[event].inc()
        if event in _ANSWERED:
            self._duration.observe(max(0.0, self._clock() - challenge.created_ms / 1000))

    def approval(self, event: str, approval: Approval) -> None:
        self._of_mpa_event[event].inc()
        if event in _DECIDED:
            self._mpa_duration.observe(max(0.0, self._clock() - approval.created_ms / 1000))

    def enrolment(self, event: str) -> None:
        self._of_enrolment[event].inc()

    def problem(self, error: Problem) -> None:
        """Counts a request that was rejected because of a limit."""
        if isinstance(error, Retryable) and error.limit:
            self._of_limit[error.limit].inc()

    def pushes(self) -> PushMetrics:
        """Creates the instruments of pushes: only where a relay is configured."""
        self._breakers.append(("sigil_relay_up", "1 while the circuit breaker of the relay is closed.", RELAY_KEY))
        return PushMetrics(self._clock)

    def webhooks(self) -> WebhookMetrics:
        """Creates the instruments of webhooks: only where a webhook is configured."""
        self._bytes_per_end = BYTES_PER_END
        self._breakers.append(
            ("sigil_webhook_up", "1 while the circuit breaker of the webhook receiver is closed.", RECEIVER_KEY)
        )
        # Events carry times of the store's clock, which stays ahead when the time of day is set back.
        return WebhookMetrics(self._store.now)

    def attestations(self) -> AttestationMetrics:
        """Creates the instruments of attestation: only where a kind is accepted."""
        return AttestationMetrics()

    def android_status(self, age: Callable[[float], float]) -> None:
        """Only where Android is accepted. `age` gets Unix seconds."""
        self._android_status_age = age

    def set_long_polls(self, count: int) -> None:
        self._long_polls.set(count)

    def count_refused_long_poll(self) -> None:
        self._refused_long_polls.inc()

    def _read(self) -> Iterator[Metric]:
        """Read at the time of the scrape."""
        yield _mode("operational")
        yield from self._of_store()
        if self._android_status_age is not None:
            yield gauge(
                "sigil_android_status_age_seconds",
                "Time since Android's status list was known to be the present one.",
                self._android_status_age(self._clock()),
            )
        if self._processes is not None:
            yield from _of_relay(self._processes().peer)

    def _of_store(self) -> Iterator[Metric]:
        usage = self._store.usage()
        pending = self._store.count(CHALLENGE) + self._store.count(APPROVAL)
        yield gauge(
            "sigil_store_free_bytes",
            "Bytes of the session store that new challenges and requests may use; at 0 they are rejected.",
            max(0, free_for_creations(usage, pending, self._bytes_per_end)),
        )
        yield gauge("sigil_challenges_pending", "Challenges that wait for their device.", self._store.count(CHALLENGE))
        yield gauge("sigil_mpa_pending", "Approval requests that wait for votes.", self._store.count(APPROVAL))
        yield gauge(
            "sigil_enrolments_pending", "Enrolments that are not complete and confirmed.", self._store.count(ENROLMENT)
        )
        yield gauge(
            "sigil_push_outbox", "Pushes, clears and outcome polls that are not complete.", self._store.count(OUTBOX)
        )
        yield gauge("sigil_webhook_outbox", "Webhook events that are not delivered yet.", self._store.count(EVENT))
        yield gauge(
            "sigil_webhook_failures", "Webhook events that were given up and are kept.", self._store.count(FAILURE)
        )
        yield gauge(
            "sigil_push_outbox_oldest_seconds",
            "For how long the push that waits longest has been due.",
            self._longest(OUTBOX, lambda entry: float(entry.due)),
        )
        yield gauge(
            "sigil_webhook_outbox_oldest_seconds",
            "Age of the oldest webhook event that is not delivered yet.",
            self._longest(EVENT, lambda event: event.since_ms / 1000),
        )
        yield gauge("sigil_store_bytes", "Bytes in use in the session store.", usage.used)
        # Not a gauge of each worker, which knows only what it has sent: the row is the state that all of them obey.
        for name, text, key in self._breakers:
            yield gauge(
                name, text, not circuit_breaker.is_open(circuit_breaker.current_run(self._run, self._store.peek(key)))
            )
        yield gauge("sigil_store_size_bytes", "Size of the session store in bytes.", usage.size)

    def _longest(self, queue: Kind, since: Callable[[Any], float]) -> float:
        """The longest time since `since` of a row, 0 without rows. By the store's clock, whose times the rows carry."""
        now = self._store.now()
        return max((max(0.0, now - since(row)) for row in self._store.head(queue, _LOOKED_AT)), default=0.0)


def _mode(mode: str) -> Metric:
    family = GaugeMetricFamily("sigil_mode", "1 for the mode of the server: init or operational.", labels=["mode"])
    family.add_metric([mode], 1)
    return family


def _of_relay(peer: Peer | None) -> Iterator[Metric]:
    if peer is None:
        return
    yield gauge(
        "sigil_relay_clock_offset_seconds",
        "By how much the clock of the relay was ahead of this host's at its last response, within a second.",
        peer.ahead_ms / 1000,
    )
    if peer.certificate_ends is not None:
        yield gauge(
            "sigil_relay_certificate_expiry_timestamp_seconds",
            "End of the certificate that the relay showed at its last response, Unix time.",
            peer.certificate_ends,
        )


class PushMetrics:
    """Outcomes of pushes, and the time until the relay accepts them."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        pushes = Counter("sigil_push", "Outcomes of pushes.", ["status"], registry=None)
        self._of_status = {status: pushes.labels(status) for status in (*get_args(PushStatus), *_OWN_STATUSES)}
        self._duration = Histogram(
            "sigil_push_duration_seconds",
            "From the creation of a challenge until the relay accepts its push.",
            buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300),
            registry=None,
        )

    def completed(self, completion: Completion) -> None:
        step, result, subject = completion.claim[1].step, completion.result, completion.subject
        if step is Step.CLEAR:
            if result not in {"relay_unreachable", "ended"}:
                self._of_status["cleared"].inc()
        elif completion.push is Push.CLEARED:
            # Counted when the clear is delivered.
            return
        elif completion.push is not completion.before or (step is Step.PUSH and result == "queued"):
            self._of_status[result].inc()
        if step is Step.PUSH and result in {"delivered", "queued"} and subject is not None:
            self._duration.observe(max(0.0, self._clock() - subject.created_ms / 1000))


class WebhookMetrics:
    """Outcomes of attempts, and the time from an event to its delivery."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        deliveries = Counter("sigil_webhook_deliveries", "Outcomes of attempts.", ["status"], registry=None)
        self._of_outcome = {outcome: deliveries.labels(outcome) for outcome in get_args(Outcome)}
        self._duration = Histogram(
            "sigil_webhook_duration_seconds",
            "From an event to its delivery.",
            buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600),
            registry=None,
        )

    def completed(self, completion: webhook_delivery.Completion) -> None:
        self._of_outcome[completion.outcome].inc()
        if completion.outcome == "success":
            self._duration.observe(max(0.0, self._clock() - completion.claim[1].since_ms / 1000))


class AttestationMetrics:
    """Credentials issued and renewed, and what was rejected, with its reason."""

    def __init__(self) -> None:
        counted = Counter("sigil_attestations", "Attestations by kind and result.", ["kind", "result"], registry=None)
        results = ("issued", "renewed", "required", *sorted(ATTESTATION_REASONS))
        # The renewal statement counts as its kind. "none": an approval with no credential, or an unreadable one.
        self._of_kind = {
            kind: {result: counted.labels(kind, result) for result in results} for kind in (*KINDS, "none")
        }

    def issued(self, kind: str, *, renewal: bool) -> None:
        self._of_kind[kind]["renewed" if renewal else "issued"].inc()

    def rejected(self, kind: str, reason: str) -> None:
        known = "apple-appattest" if kind == "apple-assertion" else kind
        self._of_kind.get(known, self._of_kind["none"])[reason].inc()
