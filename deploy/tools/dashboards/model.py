"""The few forms of panels that the dashboards use, and their JSON (Grafana's classic dashboard model).

A panel names its unit, its queries and its thresholds. Data source, position, ids and options follow from this module.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

SCHEMA_VERSION = 41
"""Of Grafana 12. Newer versions migrate it when they load it."""
COLUMNS = 24
_SOURCE = {"type": "prometheus", "uid": "${datasource}"}

Steps = tuple[tuple[float | None, str], ...]
"""(from this value on, colour); the first value is None."""
NEUTRAL: Steps = ((None, "text"),)


def bad_from(warning: float, critical: float) -> Steps:
    return ((None, "green"), (warning, "orange"), (critical, "red"))


def bad_below(warning: float, critical: float) -> Steps:
    return ((None, "red"), (critical, "orange"), (warning, "green"))


@dataclass(frozen=True)
class Query:
    """PromQL and the name of its series; the other fields change how Grafana shows this series alone."""

    expression: str
    legend: str
    unit: str = ""
    steps: Steps = ()
    right_axis: bool = False


@dataclass(frozen=True)
class Panel:
    """`description` ends with the paragraph of the runbook, where there is one."""

    title: str
    description: str
    unit: str
    queries: tuple[Query, ...]
    kind: Literal["timeseries", "stat", "gauge"] = "timeseries"
    steps: Steps = NEUTRAL
    width: int = 8
    runbook: tuple[str, ...] = ()
    """Alerts whose paragraphs help."""
    states: dict[str, str] = field(default_factory=dict)
    """Texts instead of values."""
    maximum: float | None = None


@dataclass(frozen=True)
class Row:
    title: str
    panels: tuple[Panel, ...]
    height: int = 8


@dataclass(frozen=True)
class Dashboard:
    uid: str
    title: str
    description: str
    instances: str
    """The metric whose `instance` labels the variable offers."""
    rows: tuple[Row, ...]

    def text(self) -> str:
        return json.dumps(self.model(), indent=2, ensure_ascii=False) + "\n"

    def model(self) -> dict[str, Any]:
        return {
            "uid": self.uid,
            "title": self.title,
            "description": self.description,
            "tags": ["sigil"],
            "schemaVersion": SCHEMA_VERSION,
            "editable": True,
            "graphTooltip": 1,
            "refresh": "30s",
            "time": {"from": "now-3h", "to": "now"},
            "timezone": "browser",
            "annotations": {"list": []},
            "links": [
                {
                    "type": "dashboards",
                    "title": "Sigil",
                    "tags": ["sigil"],
                    "asDropdown": False,
                    "includeVars": False,
                    "keepTime": True,
                    "targetBlank": False,
                    "icon": "external link",
                    "tooltip": "",
                    "url": "",
                }
            ],
            "templating": {"list": [_data_source_variable(), _instance_variable(self.instances)]},
            "panels": list(self._panels()),
        }

    def _panels(self) -> Iterator[dict[str, Any]]:
        number = top = 0
        for row in self.rows:
            number += 1
            yield {
                "id": number,
                "type": "row",
                "title": row.title,
                "collapsed": False,
                "gridPos": {"x": 0, "y": top, "w": COLUMNS, "h": 1},
                "panels": [],
            }
            top += 1
            left = 0
            for panel in row.panels:
                number += 1
                yield _panel(panel, number, {"x": left, "y": top, "w": panel.width, "h": row.height})
                left += panel.width
            top += row.height


def _data_source_variable() -> dict[str, Any]:
    return {
        "name": "datasource",
        "label": "Data source",
        "type": "datasource",
        "query": "prometheus",
        "regex": "",
        "current": {},
        "hide": 0,
        "includeAll": False,
        "multi": False,
        "options": [],
        "refresh": 1,
        "skipUrlSync": False,
    }


def _instance_variable(metric: str) -> dict[str, Any]:
    return {
        "name": "instance",
        "label": "Instance",
        "type": "query",
        "datasource": _SOURCE,
        "query": {"query": f"label_values({metric}, instance)", "refId": "instances"},
        "regex": "",
        "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
        "hide": 0,
        "includeAll": True,
        "multi": True,
        "options": [],
        # With the time range: an instance that is down now has had values in it.
        "refresh": 2,
        "sort": 1,
        "skipUrlSync": False,
    }


def _panel(panel: Panel, number: int, position: dict[str, int]) -> dict[str, Any]:
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": _description(panel),
        "datasource": _SOURCE,
        "gridPos": position,
        "targets": [_target(query, place, panel) for place, query in enumerate(panel.queries)],
        "fieldConfig": {"defaults": _defaults(panel), "overrides": [*_overrides(panel)]},
        "options": _options(panel),
    }


def _description(panel: Panel) -> str:
    pages = ", ".join(f"docs/runbook.md#{alert.lower()}" for alert in panel.runbook)
    return f"{panel.description}\n\nWhat to do: {pages}" if pages else panel.description


def _letter(place: int) -> str:
    return chr(ord("A") + place)


def _target(query: Query, place: int, panel: Panel) -> dict[str, Any]:
    instant = panel.kind != "timeseries"
    return {
        "refId": _letter(place),
        "datasource": _SOURCE,
        "expr": query.expression,
        "legendFormat": query.legend,
        "editorMode": "code",
        "format": "time_series",
        "instant": instant,
        "range": not instant,
    }


def _thresholds(steps: Steps) -> dict[str, Any]:
    return {"mode": "absolute", "steps": [{"value": value, "color": colour} for value, colour in steps]}


def _defaults(panel: Panel) -> dict[str, Any]:
    drawn = panel.kind == "timeseries"
    defaults: dict[str, Any] = {
        "unit": panel.unit,
        "color": {"mode": "palette-classic" if drawn else "thresholds"},
        "thresholds": _thresholds(panel.steps),
        "mappings": [],
    }
    if panel.states:
        texts = {value: {"text": text, "index": index} for index, (value, text) in enumerate(panel.states.items())}
        defaults["mappings"] = [{"type": "value", "options": texts}]
    if drawn or panel.kind == "gauge":
        defaults["min"] = 0
    if panel.maximum is not None:
        defaults["max"] = panel.maximum
    if drawn:
        defaults["custom"] = {
            "drawStyle": "line",
            "lineWidth": 1,
            "fillOpacity": 8,
            "showPoints": "never",
            "spanNulls": False,
            "axisPlacement": "auto",
            "thresholdsStyle": {"mode": "off" if panel.steps is NEUTRAL else "line"},
        }
    return defaults


def _overrides(panel: Panel) -> Iterator[dict[str, Any]]:
    for place, query in enumerate(panel.queries):
        changed: list[dict[str, Any]] = []
        if query.unit:
            changed.append({"id": "unit", "value": query.unit})
        if query.steps:
            changed.append({"id": "thresholds", "value": _thresholds(query.steps)})
        if query.right_axis:
            changed.append({"id": "custom.axisPlacement", "value": "right"})
        if changed:
            yield {"matcher": {"id": "byFrameRefID", "options": _letter(place)}, "properties": changed}


def _options(panel: Panel) -> dict[str, Any]:
    newest = {"calcs": ["lastNotNull"], "fields": "", "values": False}
    if panel.kind == "stat":
        return {
            "reduceOptions": newest,
            "colorMode": "background",
            "graphMode": "none",
            "textMode": "value_and_name",
            "justifyMode": "auto",
            "orientation": "auto",
        }
    if panel.kind == "gauge":
        return {
            "reduceOptions": newest,
            "showThresholdLabels": False,
            "showThresholdMarkers": True,
            "orientation": "auto",
        }
    return {
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []},
        "tooltip": {"mode": "multi", "sort": "desc"},
    }
