"""The dashboard of the relay."""

from __future__ import annotations

from deploy.tools.dashboards.model import Dashboard, Panel, Query, Row, bad_from
from deploy.tools.dashboards.promql import INSTANCE, chosen, increase, quantile, rate, total

_NOW = Row(
    "Now",
    (
        Panel(
            "Health",
            "The worst of the chosen instances: the process, and its database.",
            "none",
            (
                Query(f'min(up{{job="relay", {INSTANCE}}})', "Relay"),
                Query(f"min({chosen('relay_database_up')})", "Database"),
            ),
            kind="stat",
            steps=((None, "red"), (1, "green")),
            states={"0": "down", "1": "up"},
            width=6,
            runbook=("RelayDown", "RelayAbsent", "RelayDatabaseDown"),
        ),
        Panel(
            "Provider credentials",
            "What the provider said last to the relay's key. Empty before the first push to a provider.",
            "none",
            (Query(f"max by (provider) ({chosen('relay_provider_credentials_refused')})", "{{provider}}"),),
            kind="stat",
            steps=((None, "green"), (1, "red")),
            states={"0": "accepted", "1": "refused"},
            width=6,
            runbook=("RelayProviderCredentialsRefused",),
        ),
        Panel(
            "Registrations",
            "Of RELAY_MAX_DEVICES. At the limit the relay rejects new devices. Every instance reports the same "
            "database.",
            "percentunit",
            (
                Query(
                    f"max(sum by (instance) ({chosen('relay_devices')})"
                    f" / max by (instance) ({chosen('relay_devices_limit')}))",
                    "In use",
                ),
            ),
            kind="gauge",
            steps=bad_from(0.8, 0.9),
            width=6,
            maximum=1,
            runbook=("RelayDevicesNearLimit",),
        ),
        Panel(
            "Queue",
            "Pushes without a final status, and for how long the oldest has waited: for a provider, for the next"
            " attempt, or for a WebSocket.",
            "short",
            (
                Query(f"max({chosen('relay_pushes_queued')})", "Queued"),
                Query(
                    f"max({chosen('relay_push_queue_oldest_seconds')})",
                    "Oldest",
                    unit="s",
                    steps=bad_from(30, 60),
                ),
            ),
            kind="stat",
            width=6,
            runbook=("RelayPushQueueOld",),
        ),
    ),
    height=7,
)

_PROVIDERS = Row(
    "Providers",
    (
        Panel(
            "Attempts",
            "Per second, by provider and outcome. One that is queued is retried.",
            "ops",
            (Query(rate("relay_push_total", by="provider, status"), "{{provider}} {{status}}"),),
        ),
        Panel(
            "Duration of an attempt",
            "In the queue of the provider and in flight, by provider; over a WebSocket until the device acknowledges "
            "it.",
            "s",
            (
                Query(quantile(0.5, "relay_push_duration_seconds", by="provider"), "{{provider}}, median"),
                Query(quantile(0.99, "relay_push_duration_seconds", by="provider"), "{{provider}}, 99 %"),
            ),
        ),
        Panel(
            "Connections and requests",
            "By provider: open connections, open requests on them, and pushes in flight or queued for a slot. No "
            "connection for a minute, or many queued pushes: the provider is unreachable or slow.",
            "short",
            (
                Query(total("relay_provider_connections", by="provider"), "{{provider}} connections"),
                Query(total("relay_provider_streams", by="provider"), "{{provider}} requests"),
                Query(total("relay_provider_pushes", by="provider"), "{{provider}} pushes"),
            ),
            runbook=("RelayProviderUnreachable",),
        ),
    ),
)

_DEVICES = Row(
    "Sockets and devices",
    (
        Panel(
            "WebSockets",
            "Devices that are connected now, and connections of all clients.",
            "short",
            (
                Query(total("relay_websockets"), "Devices"),
                Query(total("relay_connections_open"), "Connections"),
            ),
        ),
        Panel(
            "Devices",
            "Registrations by platform. Every instance reports the same database.",
            "short",
            (Query(f"max by (platform) ({chosen('relay_devices')})", "{{platform}}"),),
        ),
        Panel(
            "Evicted tokens",
            "By reason, from one point to the next. A jump: a wrong APNS_TOPIC or APNS_ENVIRONMENT, or a new release "
            "of the app that lost its registrations.",
            "short",
            (Query(increase("relay_token_evictions_total", by="reason"), "{{reason}}"),),
            runbook=("SigilPushesNotDelivered",),
        ),
    ),
)

_SERVERS = Row(
    "Servers and limits",
    (
        Panel(
            "Rejected requests of servers",
            "Per second, by reason. unknown_server: this relay does not trust it; clock: its clock is more than 60 s "
            "off; docs/relay.md has all reasons.",
            "reqps",
            (Query(rate("relay_server_requests_rejected_total", by="reason"), "{{reason}}"),),
            runbook=("RelayServerRequestsRejected",),
        ),
        Panel(
            "Rejected by a limit",
            "Per second, by limit: of an address, a server, unauthenticated sockets (arrivals), sockets, "
            "authentications.",
            "reqps",
            (Query(rate("relay_rate_limited_total", by="limit"), "{{limit}}"),),
        ),
        Panel(
            "Age of the registrations",
            "How old the registrations are that pushes go to: the median by provider. Tokens that are months old are "
            "those of apps that people no longer open.",
            "s",
            (Query(quantile(0.5, "relay_token_age_seconds", by="provider"), "{{provider}}, median"),),
        ),
    ),
)

_PROCESS = Row(
    "HTTP, database and processes",
    (
        Panel(
            "Responses",
            "Per second, by status, over all routes. 503: the database is down or busy, or the relay stops.",
            "reqps",
            (Query(rate("relay_http_requests_total", by="status"), "{{status}}"),),
            runbook=("RelayServerErrors", "RelayDatabaseDown"),
        ),
        Panel(
            "Response time, 99 %",
            "By route, without WebSockets. A slow database shows on all of them.",
            "s",
            (
                Query(
                    quantile(0.99, "relay_http_request_duration_seconds", 'route!~"/ws|/metrics|none"', by="route"),
                    "{{route}}",
                ),
            ),
            runbook=("RelayDatabaseDown",),
        ),
        Panel(
            "Processor, memory and trouble",
            "Resident memory; on the right the cores in use, and what is zero in a healthy relay: workers that died "
            "or hung, reloads that failed, lost log lines and spans.",
            "bytes",
            (
                Query(total("process_resident_memory_bytes", 'job="relay"', by="instance"), "memory {{instance}}"),
                Query(
                    f'rate(process_cpu_seconds_total{{job="relay", {INSTANCE}}}[$__rate_interval])',
                    "cores {{instance}}",
                    unit="none",
                    right_axis=True,
                ),
                Query(
                    increase("relay_worker_restarts_total", by="reason"),
                    "worker {{reason}}",
                    unit="short",
                    right_axis=True,
                ),
                Query(
                    f"count({chosen('relay_last_reload_successful')} == 0) or vector(0)",
                    "failed reload",
                    unit="short",
                    right_axis=True,
                ),
                Query(increase("relay_log_lines_dropped_total"), "log lines lost", unit="short", right_axis=True),
                Query(increase("relay_otlp_spans_dropped_total"), "spans lost", unit="short", right_axis=True),
            ),
            runbook=("RelayWorkerCrashLoop", "RelayReloadFailed", "RelayLogLinesDropped", "RelaySpansDropped"),
        ),
    ),
)

DASHBOARD = Dashboard(
    uid="sigil-relay",
    title="Sigil: relay",
    description="The push relay. docs/observability.md describes each panel; docs/runbook.md says what to do.",
    instances="relay_build_info",
    rows=(_NOW, _PROVIDERS, _DEVICES, _SERVERS, _PROCESS),
)
