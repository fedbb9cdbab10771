"""Figures for operators, which any worker exposes: mode, reloads, certificate, clock of the relay, oldest entries,
headers of proxies."""

from __future__ import annotations

import datetime
import os
import shutil
import signal
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from sigil.device import Device
from tests.device.tls import certificate
from tests.first_boot.init_mode_server import WORDS, InitModeServer
from tests.flows.backend import Backend
from tests.flows.test_metrics import Sample, scrape
from tests.flows.test_webhooks import approve_a_challenge
from tests.flows.test_webhooks import start_server as start_server_with_webhook
from tests.support.live import LiveServer, wait_until
from tests.support.live_relay import LiveRelay
from tests.support.stand_in_relay import StandInRelay
from tests.support.webhook_endpoint import WebhookEndpoint

DAY = 86_400
CLOCK = "sigil_relay_clock_offset_seconds"
# New connections: the kernel distributes them over the workers. With two of them, each is met by one of 16.
ALL_WORKERS = 16


def figure(server: Any, name: str, labels: tuple[tuple[str, str], ...] = ()) -> float | None:
    with server.client() as client:
        return scrape(client).get((name, labels))


def figures(server: Any, name: str) -> set[float | None]:
    """As all workers expose it."""
    return {figure(server, name) for _ in range(ALL_WORKERS)}


def reload(server: LiveServer | LiveRelay, events: Callable[[str], list[dict[str, Any]]]) -> None:
    ends = len(events("reload_finished")) + len(events("reload_refused"))
    os.kill(server.pid, signal.SIGHUP)
    wait_until(lambda: len(events("reload_finished")) + len(events("reload_refused")) > ends, "the end of the reload")


def events_of(server: LiveServer) -> Callable[[str], list[dict[str, Any]]]:
    return lambda name: [line for line in server.log() if line["event"] == name]


def pair_until(folder: Path, ends: datetime.datetime) -> float:
    """Writes cert.pem and key.pem; the end as Unix time."""
    folder.mkdir()
    made = certificate(folder, ends)
    (folder / "cert.pem").write_text(made.pem)
    (folder / "key.pem").write_text(made.files.read_text().replace(made.pem, ""))
    return ends.replace(microsecond=0).timestamp()


def test_the_certificate_is_the_one_that_is_served_and_a_failed_reload_shows_until_one_succeeds(tmp_path: Path) -> None:
    now = datetime.datetime.now(datetime.UTC)
    first = pair_until(tmp_path / "first", now + datetime.timedelta(days=9))
    second = pair_until(tmp_path / "second", now + datetime.timedelta(days=90))
    used = shutil.copytree(tmp_path / "first", tmp_path / "used")
    settings = {"TLS_CERT_PATH": str(used / "cert.pem"), "TLS_KEY_PATH": str(used / "key.pem")}
    server = LiveServer(workers=2, **settings, TLS_AUTO_GENERATE="false")
    server.certificate = used / "cert.pem"
    with server:
        started = figure(server, "sigil_last_reload_timestamp_seconds")
        assert started is not None
        assert abs(started - time.time()) < DAY
        assert figures(server, "sigil_certificate_expiry_timestamp_seconds") == {first}
        assert figures(server, "sigil_last_reload_successful") == {1}

        shutil.copytree(tmp_path / "second", used, dirs_exist_ok=True)
        server.certificate = tmp_path / "first" / "cert.pem"
        assert figures(server, "sigil_certificate_expiry_timestamp_seconds") == {first}

        (used / "key.pem").write_text("damaged")
        wait_until(lambda: time.time() > started + 1, "another second")
        reload(server, events_of(server))
        assert figures(server, "sigil_last_reload_successful") == {0}
        refused_at = figure(server, "sigil_last_reload_timestamp_seconds")
        assert refused_at is not None
        assert refused_at > started
        assert figures(server, "sigil_certificate_expiry_timestamp_seconds") == {first}

        shutil.copytree(tmp_path / "second", used, dirs_exist_ok=True)
        reload(server, events_of(server))
        server.certificate = used / "cert.pem"
        assert figures(server, "sigil_last_reload_successful") == {1}
        assert figures(server, "sigil_certificate_expiry_timestamp_seconds") == {second}


def test_a_reload_of_the_relay_that_fails_shows_and_it_has_no_certificate(tmp_path: Path) -> None:
    trusted = tmp_path / "trusted"
    trusted.write_text("")
    with LiveRelay(RELAY_TRUSTED_SERVERS_FILE=str(trusted)) as relay:
        assert figure(relay, "relay_last_reload_successful") == 1
        assert figure(relay, "relay_certificate_expiry_timestamp_seconds") is None
        trusted.write_text("no server id")
        reload(relay, relay.events)
        assert figure(relay, "relay_last_reload_successful") == 0
        trusted.write_text("")
        reload(relay, relay.events)
        assert figure(relay, "relay_last_reload_successful") == 1


def test_metrics_in_init_mode_have_the_same_guard_and_go_on_when_the_server_is_operational() -> None:
    token = "a-metrics-token-for-this-test"
    bearer = {"Authorization": f"Bearer {token}"}
    with InitModeServer(METRICS_TOKEN=token) as server:
        for wrong in ({"Authorization": "Bearer wrong"}, {"Authorization": f"Bearer {server.token()}"}):
            assert server.get("/metrics", **wrong).status_code == 401
        with server.client() as client:
            assert client.post("/metrics", headers=bearer).status_code == 405
        before = init_sample(server, bearer)
        assert before["sigil_mode", (("mode", "init"),)] == 1
        assert before["sigil_processes", ()] >= 3
        assert before["sigil_worker_restarts_total", (("reason", "died"),)] == 0
        assert before["sigil_certificate_expiry_timestamp_seconds", ()] > time.time()
        assert ("sigil_store_bytes", ()) not in before
        rejected = requests(before, "/metrics", "401")
        assert rejected >= 2

        server.commit(WORDS)
        wait_until(lambda: server.modes() == {"operational"}, "all workers to be operational")
        after = init_sample(server, bearer)
        assert ("sigil_mode", (("mode", "init"),)) not in after
        assert after["sigil_mode", (("mode", "operational"),)] == 1
        assert requests(after, "/metrics", "401") == rejected
        assert requests(after, "/info", "200") >= 24
        assert after["sigil_store_size_bytes", ()] > 0
        assert server.get("/metrics", Authorization="Bearer wrong").status_code == 401


def init_sample(server: InitModeServer, bearer: dict[str, str]) -> Sample:
    with server.client(headers=bearer) as client:
        return scrape(client)


def requests(sample: Sample, route: str, status: str) -> float:
    labels = (("method", "GET"), ("route", route), ("status", status))
    return sample.get(("sigil_http_requests_total", labels), 0)


def test_metrics_in_init_mode_without_a_token_are_for_this_host_alone() -> None:
    with InitModeServer() as server:
        assert server.get("/metrics").status_code == 200
        assert server.get("/metrics", **{"X-Forwarded-For": "192.0.2.7"}).status_code == 401
    with InitModeServer(SIGIL_TELEMETRY="none") as server, server.client() as client:
        client.event_hooks = {}
        assert client.get("/metrics").status_code == 503


def create_challenges(server: LiveServer, count: int) -> None:
    with Backend(server) as backend:
        for _ in range(count):
            backend.create_challenge(Device.generate())


@pytest.mark.parametrize("ahead", [0.0, 3600.0, -3600.0])
def test_the_clock_of_the_relay_is_compared_at_each_response(ahead: float) -> None:
    with StandInRelay() as relay:
        relay.ahead = ahead
        with LiveServer(workers=2, RELAY_URL=relay.url) as server:
            wait_until(lambda: figure(server, CLOCK) is not None, "a response of the relay")
            for offset in figures(server, CLOCK):
                assert offset is not None
                assert abs(offset - ahead) < 2
            # The newest response of all workers counts, and it is one that rejects the request.
            relay.ahead = 60.0
            relay.fault = 401
            create_challenges(server, 1)
            wait_until(lambda: abs((figure(server, CLOCK) or 0) - 60) < 2, "the new difference")


def test_half_of_the_round_trip_is_no_difference_of_the_clocks() -> None:
    with StandInRelay() as relay:
        relay.delay = 6.0
        with LiveServer(workers=1, RELAY_URL=relay.url) as server:
            wait_until(lambda: figure(server, CLOCK) is not None, "a response of the relay")
            offset = figure(server, CLOCK)
            assert offset is not None
            # The relay writes its Date at the end of the six seconds.
            assert abs(offset - 3) < 2


@pytest.mark.parametrize("date", ["", "yesterday", "Thu, 01 Jan 1970 00:00:00 PST", "Mon, 32 Foo 99999 25:61:61 GMT"])
def test_a_relay_without_a_usable_date_has_no_difference_and_still_gets_pushes(date: str) -> None:
    with StandInRelay() as relay:
        relay.date = date or " "
        with LiveServer(workers=1, RELAY_URL=relay.url) as server:
            create_challenges(server, 1)
            wait_until(lambda: relay.pushes, "the push")
            assert figure(server, CLOCK) is None
            assert figure(server, "sigil_relay_up") == 1


def test_the_certificate_of_the_relay_is_that_of_its_connection(tmp_path: Path) -> None:
    pair = certificate(tmp_path)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(pair.files)
    with (
        StandInRelay(tls) as relay,
        LiveServer(workers=2, RELAY_URL=relay.url, SSL_CERT_FILE=str(pair.files)) as server,
    ):
        name = "sigil_relay_certificate_expiry_timestamp_seconds"
        wait_until(lambda: figure(server, name) is not None, "a response of the relay")
        assert figures(server, name) == {datetime.datetime(2120, 1, 1, tzinfo=datetime.UTC).timestamp()}


def test_a_push_that_waits_although_it_is_due_grows_old_and_one_that_is_sent_does_not() -> None:
    name = "sigil_push_outbox_oldest_seconds"
    with StandInRelay() as relay, LiveServer(workers=2, RELAY_URL=relay.url, SIGIL_DEVICE_RATE="off") as server:
        create_challenges(server, 3)
        wait_until(lambda: figure(server, "sigil_push_outbox") == 0, "the outbox to empty")
        assert figure(server, name) == 0
        relay.stop()
        create_challenges(server, 60)
        wait_until(lambda: (figure(server, name) or 0) > 3, "a push to be old")
        relay.start()
        wait_until(lambda: figure(server, "sigil_push_outbox") == 0, "the outbox to empty")
        assert figure(server, name) == 0


def test_a_webhook_event_grows_old_until_it_is_delivered() -> None:
    name = "sigil_webhook_outbox_oldest_seconds"
    with (
        WebhookEndpoint(lambda number: 500) as endpoint,
        start_server_with_webhook(endpoint, SIGIL_WEBHOOK_SCHEDULE="1,1,1,1,1,1,1,1,1,1,1,1") as server,
        Backend(server) as backend,
    ):
        assert figure(server, name) == 0
        approve_a_challenge(backend)
        # It is retried each second: an event that is attempted again is as old as before.
        wait_until(lambda: (figure(server, name) or 0) > 3, "the event to be old")
        assert len(endpoint.arrivals) > 1
        endpoint.status_for = lambda number: 200
        wait_until(lambda: figure(server, "sigil_webhook_outbox") == 0, "the delivery")
        assert figure(server, name) == 0


def test_each_request_with_a_header_of_an_unknown_proxy_is_counted_by_both_services() -> None:
    with LiveServer(workers=2) as server, LiveRelay() as relay:
        for service, prefix in ((server, "sigil"), (relay, "relay")):
            name = f"{prefix}_untrusted_proxy_headers_total"
            assert figure(service, name) == 0
            for header in ("X-Forwarded-For", "Forwarded", "X-Real-IP", "X-Forwarded-For"):
                with service.client() as client:
                    client.get("/health", headers={header: "192.0.2.7"})
                    client.get("/health", headers={"CF-Connecting-IP": "192.0.2.7"})
            assert figure(service, name) == 4
            assert figure(service, f"{prefix}_trusted_clients_total") == 0


def test_each_request_of_a_client_in_a_trusted_range_is_counted() -> None:
    with LiveServer(workers=2, TRUSTED_PROXY_CIDR="127.0.0.0/8", METRICS_TOKEN="off") as server:
        for _ in range(3):
            with server.client() as client:
                client.get("/health", headers={"X-Real-IP": "192.0.2.7"})
                client.get("/health", headers={"X-Forwarded-For": "192.0.2.7"})
                client.get("/health")
        assert figure(server, "sigil_trusted_clients_total") == 3
        assert figure(server, "sigil_untrusted_proxy_headers_total") == 0


def test_the_figures_continue_when_all_workers_were_replaced() -> None:
    with StandInRelay() as relay, LiveServer(workers=2, RELAY_URL=relay.url) as server:
        wait_until(lambda: figure(server, CLOCK) is not None, "a response of the relay")
        ends = figure(server, "sigil_certificate_expiry_timestamp_seconds")
        for victim in server.workers():
            os.kill(victim, signal.SIGKILL)
        wait_until(lambda: restarts(server) == 2, "two restarts")
        assert figures(server, "sigil_certificate_expiry_timestamp_seconds") == {ends}
        wait_until(lambda: None not in figures(server, CLOCK), "the first responses")


def restarts(server: LiveServer) -> float:
    try:
        return figure(server, "sigil_worker_restarts_total", (("reason", "died"),)) or 0
    except httpx.TransportError:
        return 0
