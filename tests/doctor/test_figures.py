"""Findings that depend on a figure of the running service: just below and at each limit."""

from __future__ import annotations

import socket
import time
from typing import Literal, NamedTuple

import pytest

from tests.doctor.examination import examine
from tests.doctor.peers import Answer, peer, response
from tests.support.live import LiveServer

GOOD = {
    "sigil": {
        "process_start_time_seconds": f"{time.time() - 86_400:.0f}",
        "sigil_processes": "4",
        'sigil_worker_restarts_total{reason="died"}': "0",
        "sigil_log_lines_dropped_total": "0",
        "sigil_store_free_bytes": "80",
        "sigil_store_size_bytes": "100",
        "sigil_push_outbox": "3",
        "sigil_push_outbox_oldest_seconds": "119",
        "sigil_webhook_outbox": "1",
        "sigil_webhook_outbox_oldest_seconds": "0",
        "sigil_webhook_failures": "0",
        "sigil_webhook_up": "1",
        "sigil_trusted_clients_total": "0",
        "sigil_untrusted_proxy_headers_total": "0",
    },
    "relay": {
        "process_start_time_seconds": f"{time.time() - 86_400:.0f}",
        "relay_processes": "4",
        "relay_devices_limit": "100",
        'relay_devices{platform="apns"}': "40",
        'relay_devices{platform="fcm"}': "49",
        "relay_pushes_queued": "5",
        "relay_push_queue_oldest_seconds": "1",
        "relay_database_up": "1",
        'relay_server_requests_rejected_total{reason="clock"}': "0",
    },
}
HEALTH = response(200, b'{"status":"healthy","mode":"operational","version":"0.1.0"}')


def service(metrics: dict[str, str]) -> Answer:
    text = "".join(f"# HELP {name} x\n{name} {value}\n" for name, value in metrics.items())

    def answer(connection: socket.socket, request: bytes) -> None:
        connection.sendall(response(200, text.encode()) if b" /metrics " in request else HEALTH)

    return answer


class Case(NamedTuple):
    program: Literal["sigil", "relay"]
    changed: dict[str, str]
    name: str
    state: str
    text: str


CASES = [
    Case("sigil", {"sigil_store_free_bytes": "14"}, "store", "open", "14%"),
    Case("sigil", {"sigil_store_free_bytes": "15"}, "store", "ok", "15%"),
    Case("sigil", {"sigil_store_free_bytes": "0.9"}, "store", "failed", "503"),
    Case("sigil", {'sigil_rate_limited_total{limit="key_store"}': "3"}, "store", "open", "3 requests"),
    Case("sigil", {'sigil_rate_limited_total{limit="key_pending"}': "4"}, "store", "open", "4 requests"),
    Case("sigil", {'sigil_rate_limited_total{limit="device"}': "5"}, "store", "ok", "80%"),
    Case("sigil", {"sigil_push_outbox_oldest_seconds": "121"}, "outboxes", "failed", "push outbox"),
    Case("sigil", {"sigil_webhook_outbox_oldest_seconds": "1e3"}, "outboxes", "failed", "webhook outbox"),
    Case("sigil", {"sigil_log_lines_dropped_total": "7"}, "log_output", "open", "7 lines"),
    Case("sigil", {"sigil_processes": "3"}, "workers", "failed", "3 processes"),
    Case("sigil", {"sigil_trusted_clients_total": "2"}, "proxy_headers", "open", "named no client"),
    Case("sigil", {"sigil_last_reload_successful": "0"}, "reload", "failed", "refused"),
    Case("relay", {}, "devices", "ok", "89 of 100"),
    Case("relay", {'relay_devices{platform="fcm"}': "50"}, "devices", "open", "90 of 100"),
    Case("relay", {'relay_devices{platform="fcm"}': "60"}, "devices", "failed", "100 of 100"),
    Case("relay", {"relay_push_queue_oldest_seconds": "121"}, "outboxes", "failed", "5 pushes"),
    Case("relay", {"relay_database_up": "0"}, "registry", "failed", "does not reach"),
    Case("relay", {'relay_server_requests_rejected_total{reason="clock"}': "3"}, "relay_trust", "open", "3 clock"),
]


@pytest.fixture(scope="module")
def environ() -> dict[str, str]:
    """Of a server that does not run: another one answers in its place."""
    server = LiveServer(workers=2)
    server.__exit__(None, None, None)
    return {
        **server.environ,
        "SIGIL_PORT": "",
        "SIGIL_HOST": "127.0.0.1",
        "RELAY_WORKERS": "2",
        "SIGIL_MNEMONIC_PATH": "",
        "SIGIL_MODE": "init",
    }


@pytest.mark.parametrize("case", CASES)
def test_a_figure_beyond_its_limit_is_named(environ: dict[str, str], case: Case) -> None:
    with peer(service(GOOD[case.program] | case.changed)) as port:
        ports = {"SIGIL_HTTP_PORT": str(port), "RELAY_PORT": str(port)}
        found = examine(environ, program=case.program, **ports)
    assert case.state in found.states(case.name), found.findings[case.name]
    assert case.text in " ".join(finding.text for finding in found.findings[case.name] if finding.state == case.state)


@pytest.mark.parametrize("first", [2, 50])
def test_workers_that_end_while_the_doctor_looks_have_failed(environ: dict[str, str], first: int) -> None:
    """A server that has run for long may have few restarts in all."""
    looks = iter(range(100))

    def answer(connection: socket.socket, request: bytes) -> None:
        restarts = first + next(looks) if b" /metrics " in request else 0
        service(GOOD["sigil"] | {'sigil_worker_restarts_total{reason="died"}': str(restarts)})(connection, request)

    with peer(answer) as port:
        found = examine(environ, SIGIL_HTTP_PORT=str(port))
    assert found.the("workers").state == "failed"
    assert "they end again and again" in found.the("workers").text
    assert "1 more" in found.the("workers").text


@pytest.mark.parametrize(
    "text",
    [
        b"\x00\xff" * 1000,
        b"x" * 5_000_000,
        b'sigil_store_free_bytes{a="' + b"y" * 100_000,
        b"sigil_store_free_bytes NaN\nsigil_store_size_bytes 0\n",
        b'sigil_worker_restarts_total{reason="\x1b[2J"} 1\n',
        b"sigil_a 1\n" * 400_000,
        b"process_start_time_seconds 1e300\nsigil_last_reload_timestamp_seconds 1e99\nsigil_last_reload_successful 0\n",
        b'sigil_store_free_bytes{a="1"} 1e308\nsigil_store_free_bytes{a="2"} 1e308\nsigil_store_size_bytes 1e-300\n',
    ],
    ids=["binary", "long", "label", "numbers", "escape", "many", "times", "sums"],
)
def test_hostile_metrics_are_no_crash(environ: dict[str, str], text: bytes) -> None:
    def answer(connection: socket.socket, request: bytes) -> None:
        connection.sendall(response(200, text) if b" /metrics " in request else HEALTH)

    with peer(answer) as port:
        found = examine(environ, SIGIL_HTTP_PORT=str(port))
    assert "\\u001b" not in found.output
    assert "this check ended" not in found.output
