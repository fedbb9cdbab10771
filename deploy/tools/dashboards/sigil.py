"""The dashboard of the server: 15 panels in 5 rows."""

from __future__ import annotations

from deploy.tools.dashboards.model import Dashboard, Panel, Query, Row, bad_below, bad_from
from deploy.tools.dashboards.promql import INSTANCE, chosen, increase, quantile, rate, total

_DAY = 86_400
# Routes that wait on purpose, and requests without a route.
_PROMPT = 'route!~".*/status.*|/metrics|none"'

_INIT = chosen("sigil_mode", 'mode="init"')

_NOW = Row(
    "Now",
    (
        Panel(
            "Health",
            "The worst of the chosen instances. The relay and the receiver are up while their circuit breaker is "
            "closed.",
            "none",
            (
                Query(f'min(up{{job="sigil", {INSTANCE}}})', "Server"),
                Query(
                    f"1 - (max({_INIT}) or 0 * max({chosen('sigil_build_info')}))",
                    "Set up",
                ),
                Query(f"min({chosen('sigil_relay_up')})", "Relay"),
                Query(f"min({chosen('sigil_webhook_up')})", "Webhook receiver"),
            ),
            kind="stat",
            steps=((None, "red"), (1, "green")),
            states={"0": "down", "1": "up"},
            width=5,
            runbook=("SigilDown", "SigilAbsent", "SigilInitMode", "SigilRelayUnreachable", "SigilWebhookUnreachable"),
        ),
        Panel(
            "Ages and deadlines",
            "The oldest entry of each outbox, the difference to the relay's clock (signatures fail from 60 s on), and"
            " the time until the certificates of the server and of a relay with https end. The age of Android's status"
            " list, where Android is accepted.",
            "s",
            (
                Query(f"max({chosen('sigil_push_outbox_oldest_seconds')})", "Oldest push", steps=bad_from(30, 60)),
                Query(
                    f"max({chosen('sigil_webhook_outbox_oldest_seconds')})",
                    "Oldest webhook event",
                    steps=bad_from(300, 900),
                ),
                Query(f"max(abs({chosen('sigil_relay_clock_offset_seconds')}))", "Clock offset", steps=bad_from(5, 10)),
                Query(
                    f"min({chosen('sigil_certificate_expiry_timestamp_seconds')}) - time()",
                    "Certificate ends in",
                    steps=bad_below(14 * _DAY, 2 * _DAY),
                ),
                Query(
                    f"min({chosen('sigil_relay_certificate_expiry_timestamp_seconds')}) - time()",
                    "Relay's certificate ends in",
                    steps=bad_below(14 * _DAY, 2 * _DAY),
                ),
                Query(
                    f"max({chosen('sigil_android_status_age_seconds')})",
                    "Android's status list",
                    steps=bad_from(7 * _DAY, 30 * _DAY),
                ),
            ),
            kind="stat",
            width=6,
            runbook=(
                "SigilPushOutboxOld",
                "SigilWebhookOutboxOld",
                "SigilClockOffset",
                "SigilCertificateExpires",
                "RelayCertificateExpires",
                "SigilAndroidStatusOld",
            ),
        ),
        Panel(
            "Session store",
            "The fullest of the chosen instances. Creation stops at 85 % of the bytes, and earlier when nothing is left"
            " for new challenges: pending ones keep space for their ends. Answers and votes go on.",
            "percentunit",
            (
                Query(f"max({chosen('sigil_store_bytes')} / {chosen('sigil_store_size_bytes')})", "In use"),
                Query(
                    f"min({chosen('sigil_store_free_bytes')} / {chosen('sigil_store_size_bytes')})",
                    "Left for new challenges",
                    steps=bad_below(0.15, 0.01),
                ),
            ),
            kind="gauge",
            steps=bad_from(0.7, 0.85),
            width=5,
            maximum=1,
            runbook=("SigilStoreFilling", "SigilStoreFull"),
        ),
        Panel(
            "Open now",
            "What waits: challenges for their device, approval requests for votes, long polls of backends; and "
            "connections of clients.",
            "short",
            (
                Query(total("sigil_challenges_pending"), "Pending challenges"),
                Query(total("sigil_mpa_pending"), "Pending approval requests"),
                Query(total("sigil_long_polls"), "Long polls"),
                Query(total("sigil_connections_open"), "Connections"),
            ),
        ),
    ),
)

_CHALLENGES = Row(
    "Challenges",
    (
        Panel(
            "Challenges",
            "Per second, by what happened. signature_failed and replay_blocked are rejected answers: the challenge "
            "stays pending.",
            "ops",
            (Query(rate("sigil_challenges_total", by="status"), "{{status}}"),),
            runbook=("SigilSignatureFailures",),
        ),
        Panel(
            "Approval requests",
            "Per second, by what happened: a vote, a decision, the end of their time.",
            "ops",
            (Query(rate("sigil_mpa_requests_total", by="status"), "{{status}}"),),
            runbook=("SigilSignatureFailures",),
        ),
        Panel(
            "Time to an answer",
            "From creation to the answer of the device, or to the vote that decided. People take seconds; a jump of "
            "both quantiles is a push that is late.",
            "s",
            (
                Query(quantile(0.5, "sigil_challenge_duration_seconds"), "Challenge, median"),
                Query(quantile(0.95, "sigil_challenge_duration_seconds"), "Challenge, 95 %"),
                Query(quantile(0.5, "sigil_mpa_duration_seconds"), "Approval request, median"),
                Query(quantile(0.95, "sigil_mpa_duration_seconds"), "Approval request, 95 %"),
            ),
            runbook=("SigilPushSlow",),
        ),
    ),
)

_HTTP = Row(
    "HTTP",
    (
        Panel(
            "Responses",
            "Per second, by status, over all routes.",
            "reqps",
            (Query(rate("sigil_http_requests_total", by="status"), "{{status}}"),),
            runbook=("SigilServerErrors", "SigilOverloaded"),
        ),
        Panel(
            "Response time, 99 %",
            "By route, without long polls, which wait up to 25 s on purpose.",
            "s",
            (Query(quantile(0.99, "sigil_http_request_duration_seconds", _PROMPT, by="route"), "{{route}}"),),
        ),
        Panel(
            "Rejected by a limit",
            "Per second, by limit: of a client address, of a device (rate, pending, muted), of an API key. Each is a "
            "429; docs/operations.md#limits has the settings.",
            "reqps",
            (
                Query(rate("sigil_rate_limited_total", by="limit"), "{{limit}}"),
                Query(rate("sigil_long_polls_refused_total"), "long polls answered at once"),
            ),
            runbook=("SigilKeyLimited",),
        ),
    ),
)

_DELIVERY = Row(
    "Push and webhooks",
    (
        Panel(
            "Pushes",
            "Per second, by outcome. not_registered: the device has no registration at the relay; token_evicted: the "
            "provider no longer knows it. `sigil doctor push FINGERPRINT` follows one device.",
            "ops",
            (Query(rate("sigil_push_total", by="status"), "{{status}}"),),
            runbook=("SigilPushesNotDelivered", "SigilRelayUnreachable"),
        ),
        Panel(
            "Webhook attempts",
            "Per second, by outcome, and the events that wait or were given up. retry: the receiver did not answer "
            "with 2xx; failure: the event was given up.",
            "ops",
            (
                Query(rate("sigil_webhook_deliveries_total", by="status"), "{{status}}"),
                Query(total("sigil_webhook_outbox"), "waiting", unit="short", right_axis=True),
                Query(total("sigil_webhook_failures"), "given up", unit="short", right_axis=True),
            ),
            runbook=("SigilWebhookUnreachable", "SigilWebhookEventsGivenUp"),
        ),
        Panel(
            "Delay of pushes and webhooks",
            "From a challenge until the relay accepts its push, and from an event to its delivery; and the entries of"
            " the push outbox.",
            "s",
            (
                Query(quantile(0.5, "sigil_push_duration_seconds"), "Push, median"),
                Query(quantile(0.99, "sigil_push_duration_seconds"), "Push, 99 %"),
                Query(quantile(0.5, "sigil_webhook_duration_seconds"), "Webhook, median"),
                Query(quantile(0.99, "sigil_webhook_duration_seconds"), "Webhook, 99 %"),
                Query(total("sigil_push_outbox"), "Push outbox", unit="short", right_axis=True),
            ),
            runbook=("SigilPushSlow", "SigilPushOutboxOld", "SigilWebhookOutboxOld"),
        ),
    ),
)

_SERVER = Row(
    "Server",
    (
        Panel(
            "Processor and memory",
            "The master and its workers: cores in use, and resident memory. Shared pages, such as the session store, "
            "count once per process.",
            "bytes",
            (
                Query(total("process_resident_memory_bytes", 'job="sigil"', by="instance"), "memory {{instance}}"),
                Query(
                    f'rate(process_cpu_seconds_total{{job="sigil", {INSTANCE}}}[$__rate_interval])',
                    "cores {{instance}}",
                    unit="none",
                    right_axis=True,
                ),
            ),
            width=12,
        ),
        Panel(
            "Trouble",
            "Zero in a healthy server: workers that died or hung, reloads that failed, lost log lines and spans, "
            "connections that the server closed, pauses of accepting.",
            "short",
            (
                Query(increase("sigil_worker_restarts_total", by="reason"), "worker {{reason}}"),
                Query(f"count({chosen('sigil_last_reload_successful')} == 0) or vector(0)", "failed reload"),
                Query(increase("sigil_log_lines_dropped_total"), "log lines lost"),
                Query(increase("sigil_otlp_spans_dropped_total"), "spans lost"),
                Query(increase("sigil_connections_closed_total", by="reason"), "connection {{reason}}"),
                Query(increase("sigil_accept_pauses_total", by="reason"), "pause {{reason}}"),
            ),
            width=12,
            runbook=("SigilWorkerCrashLoop", "SigilReloadFailed", "SigilLogLinesDropped", "SigilSpansDropped"),
        ),
    ),
)

DASHBOARD = Dashboard(
    uid="sigil-server",
    title="Sigil: server",
    description="The auth server. docs/observability.md describes each panel; docs/runbook.md says what to do.",
    instances="sigil_build_info",
    rows=(_NOW, _CHALLENGES, _HTTP, _DELIVERY, _SERVER),
)
