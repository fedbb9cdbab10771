"""The alert rules: promtool takes them and their cases, each has all that it needs, and both services expose what they
query."""

from __future__ import annotations

import re
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.observability import exposure
from tests.support.prometheus import program

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "deploy" / "observability" / "prometheus"
SERVICES = ("sigil", "relay")
SEVERITIES = {"critical", "warning", "info"}
# A selector: the name of a metric, and its matchers.
_SELECTOR = re.compile(r"\b((?:sigil|relay|process)_\w+|up)\b(?:\{([^}]*)\})?")
_MATCHER = re.compile(r'(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)"')
_GROUPING = re.compile(r"\b(?:by|on) \(([^)]*)\)")
# Prometheus itself adds these to each sample.
_OF_TARGETS = {"job", "instance"}
# Values that no healthy service exposes: of these labels only the name is compared.
_ANY_VALUE = {"status": "http_requests_total", "route": "http_requests_total"}


@cache
def rules() -> list[dict[str, Any]]:
    files = [yaml.safe_load((FOLDER / "rules" / f"{service}.rules.yml").read_text()) for service in SERVICES]
    return [rule for file in files for group in file["groups"] for rule in group["rules"]]


@cache
def cases(alert: str) -> list[dict[str, Any]]:
    """The tests of promtool that query this alert."""
    files = [yaml.safe_load((FOLDER / "rules" / f"{service}.test.yml").read_text()) for service in SERVICES]
    query = f'ALERTS{{alertname="{alert}",alertstate="firing"}}'
    return [
        test
        for file in files
        for test in file["tests"]
        if any(one["expr"] == query for one in test["promql_expr_test"])
    ]


NAMES = sorted({rule["alert"] for rule in rules()})


def promtool(*arguments: str) -> None:
    done = subprocess.run(
        [program("promtool"), *arguments],
        cwd=FOLDER / "rules",
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("service", SERVICES)
def test_promtool_takes_the_rules_and_their_cases(service: str) -> None:
    promtool("check", "rules", f"{service}.rules.yml")
    promtool("test", "rules", f"{service}.test.yml")


def test_promtool_takes_the_configuration() -> None:
    promtool("check", "config", "--syntax-only", "../prometheus.yml")


@pytest.mark.parametrize("alert", NAMES)
def test_each_alert_has_cases_in_which_it_fires_and_in_which_it_is_silent(alert: str) -> None:
    checks = [check for case in cases(alert) for check in case["promql_expr_test"]]
    fired = [sample["labels"] for check in checks for sample in check.get("exp_samples", ())]
    for severity in {rule["labels"]["severity"] for rule in rules() if rule["alert"] == alert}:
        assert any(f'severity="{severity}"' in labels for labels in fired)
    # An alert that is absent has no instance.
    if not alert.endswith("Absent"):
        series = [one["series"] for case in cases(alert) for one in case.get("input_series", ())]
        silent = set(re.findall(r'instance="(\w+)"', " ".join(series))) - {
            name for labels in fired for name in re.findall(r'instance="(\w+)"', labels)
        }
        assert "good" in silent
        counts = any(
            "increase(" in rule["expr"] or "rate(" in rule["expr"] for rule in rules() if rule["alert"] == alert
        )
        assert not counts or "restarted" in silent, "a restart of the service sets its counters to zero"
    assert any("exp_samples" not in check for check in checks)


def test_every_rule_has_a_severity_and_annotations_and_an_entry_in_the_documentation() -> None:
    table = (ROOT / "docs" / "observability.md").read_text().partition("\n## Alerts\n")[2]
    for rule in rules():
        assert rule["labels"].keys() == {"severity"}
        assert rule["labels"]["severity"] in SEVERITIES
        assert rule["annotations"].keys() == {"summary", "description", "runbook"}
        assert rule["annotations"]["runbook"] == f"docs/runbook.md#{rule['alert'].lower()}"
        (row,) = [line for line in table.splitlines() if re.match(rf"\| \W*{rule['alert']}\b", line)]
        assert rule["labels"]["severity"] in row.rpartition(" | ")[2]
    headings = re.findall(r"^### (.+)$", (ROOT / "docs" / "runbook.md").read_text(), re.MULTILINE)
    assert {rule["alert"] for rule in rules()} <= set(headings), "each alert has a paragraph in docs/runbook.md"
    documented = re.findall(r"^\| \W*((?:Sigil|Relay)\w+)", table, re.MULTILINE)
    assert sorted(documented) == NAMES


def test_every_metric_and_label_of_the_rules_is_exposed_by_a_service(tmp_path: Path) -> None:
    exposed = exposure.of_both_services(tmp_path)
    labels = {name: {label for sample in samples for label in sample} for name, samples in exposed.items()}
    for rule in rules():
        used: set[str] = set()
        for name, matchers in _SELECTOR.findall(_GROUPING.sub("", rule["expr"])):
            if name == "up":
                continue
            assert name in exposed, f"{rule['alert']}: no service exposes {name}"
            used |= labels[name]
            for label, operator, value in _MATCHER.findall(matchers):
                if label in _OF_TARGETS:
                    continue
                assert label in labels[name], f"{rule['alert']}: {name} has no label {label}"
                if not name.endswith(_ANY_VALUE.get(label, "-")) and name != "relay_push_total":
                    seen = {sample[label] for sample in exposed[name]}
                    wanted = value.split("|") if operator in {"=~", "!~"} else [value]
                    assert set(wanted) <= seen, f"{rule['alert']}: {name} never has {label}={value}"
        for group in _GROUPING.findall(rule["expr"]):
            assert set(group.split(", ")) <= used | _OF_TARGETS, f"{rule['alert']}: {group}"
