"""A real Prometheus scrapes real services under load: each query of dashboards and rules answers, with the truth."""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Iterator
from typing import NamedTuple

import pytest
import yaml

from tests.observability.dashboards import NAMES, OBSERVABILITY, Target, targets
from tests.observability.load import Installation, Load, installation, run
from tests.support.prometheus import Prometheus, Series

RULES = sorted((OBSERVABILITY / "prometheus" / "rules").glob("*.rules.yml"))
# Grafana sends at least four scrapes. Those of this test are a second apart, or more on a busy machine.
INTERVAL = "10s"
TARGETS = [target for name in NAMES for target in targets(name)]
# What has no series in this installation, with the reason.
EMPTY = {
    "sigil: Ages and deadlines: Relay's certificate ends in": "the relay of this test has no https",
    "sigil: Ages and deadlines: Android's status list": "no Android app may attest",
    "sigil: Trouble: spans lost": "traces are off",
    "relay: Processor, memory and trouble: spans lost": "traces are off",
}


class Loaded(NamedTuple):
    running: Installation
    load: Load

    @property
    def prometheus(self) -> Prometheus:
        return self.running.prometheus

    def points(self, target: Target, instances: str = ".*") -> list[Series]:
        """As the panel shows them over the time of the load."""
        return self.prometheus.query_range(target.substituted(INTERVAL, instances), self.load.began, self.load.ended)

    def grew(self, expression: str) -> float:
        """By how much a counter grew during the load."""
        before = self.prometheus.query(expression, at=self.load.began)
        after = self.prometheus.query(expression, at=self.load.ended)
        return sum(series.value for series in after) - sum(series.value for series in before)


@pytest.fixture(scope="module")
def loaded() -> Iterator[Loaded]:
    with installation(*RULES) as running:
        yield Loaded(running, asyncio.run(run(running)))
        for event in ("internal_error", "background_loop_failed"):
            assert running.relay.events(event) == []
            assert [line for line in running.server.log() if line["event"] == event] == []


@pytest.mark.parametrize("target", TARGETS, ids=str)
def test_each_query_answers_and_has_data(loaded: Loaded, target: Target) -> None:
    found = loaded.points(target)
    numbers = [value for series in found for _, value in series.points if not math.isnan(value)]
    if str(target) in EMPTY:
        assert numbers == [], f"it has data now: remove it from EMPTY ({EMPTY[str(target)]})"
        return
    assert numbers, target.expression
    assert all(math.isfinite(value) for value in numbers), target.expression


@pytest.mark.parametrize("target", TARGETS, ids=str)
def test_each_query_answers_for_all_instances_as_grafana_names_them(loaded: Loaded, target: Target) -> None:
    """`All` becomes the known values, joined; Grafana escapes their dots twice, since they are within a string."""
    instances = {service.url.partition("://")[2] for service in (loaded.running.server, loaded.running.relay)}
    joined = "|".join(re.escape(instance).replace("\\", "\\\\") for instance in sorted(instances))
    assert bool(loaded.points(target, f"({joined})")) == (str(target) not in EMPTY)


@pytest.mark.parametrize("target", TARGETS, ids=str)
def test_each_query_has_no_data_of_another_instance(loaded: Loaded, target: Target) -> None:
    found = loaded.points(target, "another:8443")
    # What counts failures shows a zero then.
    assert all(value == 0 for series in found for _, value in series.points), target.expression


def test_the_names_of_series_have_no_label_that_is_missing(loaded: Loaded) -> None:
    for target in TARGETS:
        wanted = set(re.findall(r"{{(\w+)}}", target.legend))
        for series in loaded.points(target):
            assert wanted <= set(series.labels), target
        found = loaded.points(target)
        names = [tuple(series.labels.get(name) for name in sorted(wanted)) for series in found]
        assert len(set(names)) == len(names), f"two series with one name: {target}"


def test_the_counters_are_what_the_load_counted(loaded: Loaded) -> None:
    load = loaded.load
    counted = {
        "sigil_challenges_total": load.challenges,
        "sigil_mpa_requests_total": load.requests,
        "sigil_rate_limited_total": load.limited,
    }
    for metric, wanted in counted.items():
        found = {
            series.labels[next(iter({"status", "limit"} & set(series.labels)))]: loaded.grew(_selector(series))
            for series in loaded.prometheus.query(metric)
        }
        assert {label: count for label, count in found.items() if count} == wanted, metric
    for status, count in load.pushes.items():
        assert loaded.grew(f'sigil_push_total{{status="{status}"}}') == count, status
    assert loaded.grew('relay_push_total{status="delivered"}') == load.pushes["delivered"]
    assert loaded.grew('relay_server_requests_rejected_total{reason="unknown_server"}') == sum(
        load.rejected_servers.values()
    )
    assert loaded.grew('sigil_http_requests_total{route="none", status="404"}') == load.not_found
    events = len({arrival.headers["webhook-id"] for arrival in loaded.running.endpoint.arrivals})
    assert loaded.grew('sigil_webhook_deliveries_total{status="success"}') == events
    failed = sum(arrival.status != 200 for arrival in loaded.running.endpoint.arrivals)
    assert loaded.grew('sigil_webhook_deliveries_total{status="retry"}') == failed > 0


def _selector(series: Series) -> str:
    labels = ", ".join(f'{name}="{value}"' for name, value in series.labels.items() if name != "__name__")
    return f"{series.labels['__name__']}{{{labels}}}"


@pytest.mark.parametrize(
    ("panel", "label", "count"),
    [
        ("sigil: Challenges: {{status}}", "created", "challenges"),
        ("sigil: Challenges: {{status}}", "verified", "challenges"),
        ("sigil: Challenges: {{status}}", "signature_failed", "challenges"),
        ("sigil: Approval requests: {{status}}", "vote", "requests"),
        ("sigil: Pushes: {{status}}", "delivered", "pushes"),
        ("sigil: Rejected by a limit: {{limit}}", "pending", "limited"),
        ("relay: Rejected requests of servers: {{reason}}", "unknown_server", "rejected_servers"),
    ],
)
def test_the_area_of_a_panel_is_what_the_load_counted(loaded: Loaded, panel: str, label: str, count: str) -> None:
    """Rates times seconds: nearly, since a rate extrapolates to the ends of its range."""
    (target,) = [target for target in TARGETS if str(target) == panel]
    ends = loaded.load.ended + float(INTERVAL[:-1])
    found = loaded.prometheus.query_range(target.substituted(INTERVAL, ".*"), loaded.load.began, ends)
    (series,) = [series for series in found if label in series.labels.values()]
    assert sum(value for _, value in series.points) == pytest.approx(
        getattr(loaded.load, count)[label], rel=0.15, abs=1
    )


def test_a_counter_shows_its_first_event(loaded: Loaded) -> None:
    """A series that begins with its first event has no increase: its label has to be there before."""
    (target,) = [target for target in TARGETS if str(target) == "relay: Evicted tokens: {{reason}}"]
    (series,) = [series for series in loaded.points(target) if series.labels["reason"] == "Unregistered"]
    assert max(value for _, value in series.points) >= 1


def test_each_rule_is_evaluated_without_an_error(loaded: Loaded) -> None:
    wanted = [
        rule.get("alert") or rule["record"]
        for file in RULES
        for group in yaml.safe_load(file.read_text(encoding="utf-8"))["groups"]
        for rule in group["rules"]
    ]
    rules = loaded.prometheus.rules()
    assert sorted(rule["name"] for rule in rules) == sorted(wanted)
    assert {rule["name"]: rule.get("lastError") for rule in rules if rule["health"] != "ok"} == {}
    for rule in rules:
        loaded.prometheus.query(rule["query"])


def test_a_server_under_load_wakes_no_person(loaded: Loaded) -> None:
    """The load has wrong signatures and devices without a registration, which alerts report; users are not hurt."""
    severities = {
        alert["labels"]["alertname"]: alert["labels"]["severity"]
        for alert in loaded.prometheus.alerts()
        if alert["state"] == "firing"
    }
    assert "critical" not in severities.values(), severities
    assert "SigilSignatureFailures" in severities
