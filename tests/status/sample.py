"""Answers of /metrics of a busy server whose relay is unreachable, the same on each machine: for pictures."""

from __future__ import annotations

import math
from collections.abc import Iterator

SECONDS = 2
_STATUSES = {"created": 1.0, "verified": 0.86, "rejected": 0.06, "expired": 0.03, "cancelled": 0.02}
_REQUEST_STATUSES = {"created": 0.02, "vote": 0.07, "approved": 0.017, "rejected": 0.002, "timeout": 0.001}
# The typical seconds, and how many there are for each challenge.
_ROUTES = {"/challenge": (0.004, 1.0), "/respond": (0.003, 0.92), "/mpa/request": (0.011, 0.1)}
_BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


def expositions(steps: int, now: float) -> Iterator[str]:
    """One for every SECONDS, the last at `now`."""
    total = 41_800.0
    start = now - steps * SECONDS - 93_784
    for step in range(steps):
        rate = 34 + 12 * math.sin(step / 14) + 5 * math.sin(step / 3.1)
        total += rate * SECONDS
        outage = max(0, step - steps * 2 // 3)
        yield "\n".join([*_of_server(rate, start, now), *_of_outage(step, outage, total, rate), *_of_requests(total)])


def _of_server(rate: float, start: float, now: float) -> Iterator[str]:
    yield 'sigil_mode{mode="init"} 0\nsigil_mode{mode="operational"} 1\nsigil_build_info{version="0.1.0"} 1'
    yield f"process_start_time_seconds {start}\nsigil_last_reload_successful 1"
    yield f"sigil_certificate_expiry_timestamp_seconds {now + 61.4 * 86400:.0f}"
    yield f"sigil_store_bytes {(250 + rate) * 2**20:.0f}\nsigil_store_size_bytes {512 * 2**20}"
    yield f"sigil_store_free_bytes {(185 - rate) * 2**20:.0f}\nsigil_connections_open {410 + rate * 3:.0f}"
    yield f"sigil_long_polls {190 + rate:.0f}\nsigil_processes 6\nsigil_challenges_pending {rate * 6.5:.0f}"
    yield f"process_resident_memory_bytes {(412 + rate / 4) * 2**20:.0f}\nprocess_open_fds {640 + rate:.0f}"
    yield 'sigil_worker_restarts_total{reason="died"} 1\nsigil_log_lines_dropped_total 0'


def _of_outage(step: int, outage: int, total: float, rate: float) -> Iterator[str]:
    delivered = total * 0.97 - outage * rate
    yield f"sigil_mpa_pending {9 + step % 5}"
    yield f"sigil_push_outbox {4 + outage * rate * 1.2:.0f}\nsigil_push_outbox_oldest_seconds {outage * SECONDS}"
    yield f"sigil_relay_up {int(outage == 0)}\nsigil_relay_clock_offset_seconds 0.4"
    yield f"sigil_webhook_up 1\nsigil_webhook_outbox {2 + step % 3}\nsigil_webhook_outbox_oldest_seconds 0.3"
    yield f'sigil_push_total{{status="delivered"}} {delivered:.0f}\nsigil_push_total{{status="not_registered"}} 31'
    yield f'sigil_push_total{{status="relay_unreachable"}} {outage // 3}'
    yield from _histogram("sigil_push_duration_seconds", "", delivered, 0.02)


def _of_requests(total: float) -> Iterator[str]:
    yield f"process_cpu_seconds_total {total * 0.011:.2f}"
    for status, share in {"200": 1.9, "201": 1.0, "404": 0.004}.items():
        yield f'sigil_http_requests_total{{status="{status}"}} {total * share:.0f}'
    yield 'sigil_rate_limited_total{limit="device"} 12\nsigil_challenges_total{status="signature_failed"} 3'
    yield f'sigil_webhook_deliveries_total{{status="success"}} {total * 0.95:.0f}'
    yield 'sigil_webhook_deliveries_total{status="retry"} 14\nsigil_webhook_deliveries_total{status="failure"} 0'
    for status, share in _STATUSES.items():
        yield f'sigil_challenges_total{{status="{status}"}} {total * share:.0f}'
    for status, share in _REQUEST_STATUSES.items():
        yield f'sigil_mpa_requests_total{{status="{status}"}} {total * share:.0f}'
    for route, (typical, share) in _ROUTES.items():
        labels = f'method="POST",route="{route}",'
        yield from _histogram("sigil_http_request_duration_seconds", labels, total * share, typical)
    yield from _histogram("sigil_challenge_duration_seconds", "", total * 0.92, 6.0)
    yield from _histogram("sigil_mpa_duration_seconds", "", total * 0.019, 9.0)
    yield from _histogram("sigil_webhook_duration_seconds", "", total * 0.95, 0.03)


def _histogram(name: str, labels: str, count: float, typical: float) -> Iterator[str]:
    for bound in _BOUNDS:
        yield f'{name}_bucket{{{labels}le="{bound}"}} {count * (1 - math.exp(-bound / typical)):.3f}'
    yield f'{name}_bucket{{{labels}le="+Inf"}} {count:.3f}'
