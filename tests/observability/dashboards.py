"""The dashboards of deploy/observability, parsed by Grafana's own model of them."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any, NamedTuple

from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models import dashboard as models

OBSERVABILITY = Path(__file__).resolve().parents[2] / "deploy" / "observability"
FOLDER = OBSERVABILITY / "grafana" / "dashboards"
NAMES = ("sigil.json", "relay.json")


@functools.cache
def text(name: str) -> str:
    return (FOLDER / name).read_text(encoding="utf-8")


def raw(name: str) -> dict[str, Any]:
    """The JSON as it is: the model drops members that it does not know."""
    found: dict[str, Any] = json.loads(text(name))
    return found


@functools.cache
def parsed(name: str) -> models.Dashboard:
    register_default_plugins()
    return models.Dashboard.from_json(json.loads(text(name)))


class Target(NamedTuple):
    """One query of a panel; its id is readable in a test's name."""

    dashboard: str
    panel: str
    legend: str
    expression: str

    def __str__(self) -> str:
        return f"{self.dashboard.removesuffix('.json')}: {self.panel}: {self.legend}"

    def substituted(self, interval: str, instances: str) -> str:
        """As Grafana sends it to Prometheus."""
        values = {"$__rate_interval": interval, "$instance": instances}
        return functools.reduce(lambda query, name: query.replace(name, values[name]), values, self.expression)


def targets(name: str) -> list[Target]:
    return [
        Target(name, panel["title"], target["legendFormat"], target["expr"])
        for panel in raw(name)["panels"]
        for target in panel.get("targets", [])
    ]
