"""A real Prometheus scrapes both services: over TLS that it verifies, with their tokens, and never without."""

from __future__ import annotations

import dataclasses
import time

from tests.support.live import LiveServer, wait_until
from tests.support.live_relay import LiveRelay
from tests.support.prometheus import Prometheus, Target

TOKEN = "the-metrics-token-of-this-test"


def test_prometheus_scrapes_both_services_with_their_tokens() -> None:
    with (
        LiveServer(workers=2, METRICS_TOKEN=TOKEN) as server,
        LiveRelay(METRICS_TOKEN=TOKEN) as relay,
        Prometheus(Target.of(server), Target.of(relay)) as prometheus,
    ):
        assert {series.labels["job"]: series.value for series in prometheus.query("up")} == {"sigil": 1, "relay": 1}
        prometheus.wait_for_scrape()
        assert prometheus.value("sigil_processes") >= 3
        assert prometheus.value("sum(relay_build_info)") == 1
        now = time.time()
        assert prometheus.query_range("scrape_duration_seconds", now - 5, now)
        relay.stop()
        wait_until(lambda: prometheus.value('up{job="relay"}') == 0, "the relay to be down")


def test_a_wrong_token_or_certificate_is_a_target_that_is_down() -> None:
    with (
        LiveServer(workers=1, METRICS_TOKEN=TOKEN) as server,
        LiveRelay(METRICS_TOKEN=TOKEN) as relay,
        Prometheus(
            dataclasses.replace(Target.of(server), certificate=None),
            dataclasses.replace(Target.of(relay), token=TOKEN[::-1]),
            targets_up=False,
        ) as prometheus,
    ):
        wait_until(lambda: all(target["lastError"] for target in prometheus.targets()), "the first scrapes")
        errors = {target["labels"]["job"]: target["lastError"] for target in prometheus.targets()}
        assert "x509" in errors["sigil"]
        assert "401" in errors["relay"]
