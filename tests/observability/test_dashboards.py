"""The dashboards: Grafana's model parses them, and each panel is complete, in its place and explained."""

from __future__ import annotations

import itertools
import re
from typing import Any

import pytest
import yaml
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models import prometheus, units

from deploy.tools.dashboards.__main__ import DASHBOARDS
from tests.observability.dashboards import NAMES, OBSERVABILITY, parsed, raw, targets, text
from tests.test_docs import ROOT, anchors

COLUMNS = 24
SOURCE = "${datasource}"
UNITS = {value for value in vars(units).values() if isinstance(value, str)}


def panels(name: str) -> list[models.Panel]:
    return [panel for panel in parsed(name).panels or [] if isinstance(panel, models.Panel)]


def rows(name: str) -> list[models.RowPanel]:
    return [panel for panel in parsed(name).panels or [] if isinstance(panel, models.RowPanel)]


def walk(value: Any) -> list[Any]:
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [value, *itertools.chain.from_iterable(map(walk, children))]


@pytest.mark.parametrize("name", NAMES)
def test_the_files_are_those_of_the_definitions(name: str) -> None:
    assert DASHBOARDS[name].text() == text(name), "run `make dashboards`"


def test_no_other_dashboard_is_provisioned() -> None:
    assert sorted(path.name for path in (OBSERVABILITY / "grafana" / "dashboards").iterdir()) == sorted(NAMES)


def test_the_server_has_fifteen_panels_in_five_rows() -> None:
    assert [row.title for row in rows("sigil.json")] == ["Now", "Challenges", "HTTP", "Push and webhooks", "Server"]
    assert len(panels("sigil.json")) == 15


@pytest.mark.parametrize("name", NAMES)
def test_grafanas_model_gives_back_what_it_read(name: str) -> None:
    """A member that the model does not know, or a value of another type, would be lost or an error."""
    wanted, read = raw(name), parsed(name).to_json()

    def compare(left: Any, right: Any, place: str) -> None:
        # The model fills in its defaults, and its objects have JSON forms of their own.
        right = right.to_json() if hasattr(right, "to_json") else right
        if isinstance(left, dict):
            assert set(left) <= set(right), (place, set(left) - set(right))
            for key in left:
                compare(left[key], right[key], f"{place}.{key}")
        elif isinstance(left, list):
            assert len(left) == len(right), place
            for index, (one, other) in enumerate(zip(left, right, strict=True)):
                compare(one, other, f"{place}[{index}]")
        else:
            assert left == right, place

    compare(wanted, read, name)


@pytest.mark.parametrize("name", NAMES)
def test_the_data_source_is_a_variable_everywhere(name: str) -> None:
    """`${DS_…}` exists only in exports for an import by hand: a provisioned dashboard would have no data."""
    assert "DS_" not in text(name)
    assert "__inputs" not in raw(name)
    assert "libraryPanel" not in text(name)
    sources = [found["datasource"] for found in walk(raw(name)) if isinstance(found, dict) and "datasource" in found]
    assert {(source["type"], source["uid"]) for source in sources} == {("prometheus", SOURCE)}
    variables = {variable["name"]: variable for variable in raw(name)["templating"]["list"]}
    assert set(variables) == {"datasource", "instance"}
    assert (variables["datasource"]["type"], variables["datasource"]["query"]) == ("datasource", "prometheus")
    assert re.fullmatch(r"label_values\(\w+_build_info, instance\)", variables["instance"]["query"]["query"])


@pytest.mark.parametrize("name", NAMES)
def test_each_panel_has_a_title_a_text_a_unit_thresholds_and_queries(name: str) -> None:
    titles = [panel.title for panel in panels(name)]
    assert len(set(titles)) == len(titles)
    for panel in panels(name):
        assert panel.title, panel
        assert len(panel.description or "") > 40, panel.title
        assert panel.datasource is not None
        assert panel.datasource.uid == SOURCE, panel.title
        assert panel.targets, panel.title
        assert panel.field_config is not None
        assert panel.field_config.defaults.unit in UNITS, panel.title
        thresholds = panel.field_config.defaults.thresholds
        assert thresholds is not None, panel.title
        assert thresholds.steps[0].value is None, panel.title
        steps = [step.value for step in thresholds.steps[1:]]
        assert steps == sorted(steps, key=lambda value: value or 0), panel.title


@pytest.mark.parametrize("name", NAMES)
def test_each_query_names_its_series_and_takes_the_chosen_instances(name: str) -> None:
    for panel in panels(name):
        queries = [query for query in panel.targets or [] if isinstance(query, prometheus.Dataquery)]
        assert len(queries) == len(panel.targets or [])
        assert len({query.ref_id for query in queries}) == len(queries), panel.title
        assert len({query.legend_format for query in queries}) == len(queries), panel.title
        for query in queries:
            selectors = re.findall(r"(?:sigil|relay|process)_\w+\b(\{[^}]*\})?|\bup\b(\{[^}]*\})", query.expr)
            assert selectors, query.expr
            for selector in map("".join, selectors):
                assert 'instance=~"$instance"' in selector, query.expr
            for metric in re.findall(r"\b(?:process_\w+|up)\{[^}]*\}", query.expr):
                # Other programs have these too.
                assert re.search(r'job="(sigil|relay)"', metric), query.expr
            # A range of its own is shorter than two scrapes, or hides what happens between two points.
            assert set(re.findall(r"\[([^\]]*)\]", query.expr)) <= {"$__rate_interval"}, query.expr
            assert "rate(" in query.expr or "increase(" in query.expr or "_total" not in query.expr, query.expr


@pytest.mark.parametrize("name", NAMES)
def test_no_panel_overlaps_another_or_leaves_the_grid(name: str) -> None:
    taken: dict[tuple[int, int], str] = {}
    every = parsed(name).panels or []
    assert len({panel.id_val for panel in every}) == len(every)
    for panel in every:
        place = panel.grid_pos
        assert place is not None
        assert place.w >= 4
        assert place.x + place.w <= COLUMNS
        for square in itertools.product(range(place.x, place.x + place.w), range(place.y, place.y + place.h)):
            assert square not in taken, f"{panel.title} and {taken.get(square)}"
            taken[square] = panel.title or ""
    # No gap either: each line of the grid is full.
    lines = {line for _, line in taken}
    assert len(taken) == COLUMNS * len(lines)
    assert lines == set(range(len(lines)))


@pytest.mark.parametrize("name", NAMES)
def test_what_changes_one_series_matches_a_query(name: str) -> None:
    """By the query, since names of series have labels in them. An override that matches nothing is no error."""
    for panel in raw(name)["panels"]:
        queries = {target["refId"] for target in panel.get("targets", [])}
        for override in panel.get("fieldConfig", {}).get("overrides", []):
            assert override["matcher"]["id"] == "byFrameRefID"
            assert override["matcher"]["options"] in queries, panel["title"]


@pytest.mark.parametrize("name", NAMES)
def test_texts_name_pages_and_paragraphs_that_exist(name: str) -> None:
    for panel in raw(name)["panels"]:
        for page, _, anchor in re.findall(r"(docs/[\w.]+\.md)(#([\w-]+))?", panel.get("description", "")):
            assert (ROOT / page).exists(), panel["title"]
            assert not anchor or anchor in anchors(ROOT / page), (panel["title"], anchor)


def test_each_alert_has_a_panel_that_shows_its_cause() -> None:
    files = (OBSERVABILITY / "prometheus" / "rules").glob("*.rules.yml")
    groups = [group for file in files for group in yaml.safe_load(file.read_text(encoding="utf-8"))["groups"]]
    alerts = {rule["alert"].lower() for group in groups for rule in group["rules"] if "alert" in rule}
    linked = {anchor for name in NAMES for anchor in re.findall(r"docs/runbook\.md#([\w-]+)", text(name))}
    assert linked == alerts


def test_uids_are_stable_and_the_schema_is_that_of_a_current_grafana() -> None:
    """Links and bookmarks name the uid; it never changes."""
    assert {name: parsed(name).uid for name in NAMES} == {"sigil.json": "sigil-server", "relay.json": "sigil-relay"}
    assert {parsed(name).schema_version for name in NAMES} == {41}


def test_grafana_is_provisioned_with_these_folders_and_the_prometheus_of_the_project() -> None:
    provisioning = OBSERVABILITY / "grafana" / "provisioning"
    (provider,) = yaml.safe_load((provisioning / "dashboards" / "sigil.yml").read_text())["providers"]
    (source,) = yaml.safe_load((provisioning / "datasources" / "prometheus.yml").read_text())["datasources"]
    services = yaml.safe_load((OBSERVABILITY / "docker-compose.yml").read_text())["services"]
    mounts = dict(volume.split(":")[:2] for volume in services["grafana"]["volumes"])
    assert mounts["./grafana/dashboards"] == provider["options"]["path"]
    assert mounts["./grafana/provisioning"] == services["grafana"]["environment"]["GF_PATHS_PROVISIONING"]
    assert (source["type"], source["url"]) == ("prometheus", "http://prometheus:9090")
    assert source["isDefault"]
    # What $__rate_interval is made of.
    scraped = yaml.safe_load((OBSERVABILITY / "prometheus" / "prometheus.yml").read_text())
    assert source["jsonData"]["timeInterval"] == scraped["global"]["scrape_interval"]


def test_each_dashboard_has_queries() -> None:
    assert all(len(targets(name)) > 20 for name in NAMES)
