"""The readings of figures: the vectors that the page shares, the table itself, and answers that are hostile."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from sigil.status import figures
from sigil.status.figures import Figure
from sigil.status.history import History, Reading
from sigil.status.units import text_of

ROOT = Path(__file__).resolve().parents[2]
VECTORS = json.loads((Path(__file__).parent / "vectors.json").read_text(encoding="utf-8"))


def table_of(rows: list[dict[str, Any]]) -> figures.Table:
    return figures.parse(
        {"windows": VECTORS["windows"], "kept": 5, "header": [], "groups": [{"title": "All", "figures": rows}]}
    )


def as_vector(figure: Figure, reading: Reading) -> dict[str, Any]:
    return {**reading._asdict(), "text": text_of(figure, reading)}


@pytest.mark.parametrize("case", VECTORS["cases"], ids=lambda case: case["name"])
def test_readings_are_those_of_the_vectors(case: dict[str, Any]) -> None:
    table = table_of(case["figures"])
    history = History(table)
    for scrape in case["scrapes"]:
        assert history.add("\n".join(scrape["text"]), scrape["at"], scrape["now"])
    found = {figure.id: as_vector(figure, history.readings[figure.id]) for figure in table.figures()}
    assert found == {
        name: {**wanted, "value": _near(wanted["value"]), "also": _near(wanted["also"])}
        for name, wanted in case["readings"].items()
    }


def _near(value: Any) -> Any:
    return pytest.approx(value) if isinstance(value, float | int) else value


@pytest.mark.parametrize("case", VECTORS["texts"], ids=lambda case: case["text"])
def test_texts_are_those_of_the_vectors(case: dict[str, Any]) -> None:
    figure = Figure("x", "x", "gauge", case["unit"], "x")
    assert text_of(figure, Reading(float(case["value"]))) == case["text"]


def test_the_table_has_unique_ids_and_short_ascii_labels() -> None:
    found = list(figures.load().figures())
    assert len({figure.id for figure in found}) == len(found)
    for figure in found:
        assert figure.label.isascii(), figure.label
        assert len(figure.label) <= 17, figure.label
        limits = (figure.warn_above, figure.bad_above, figure.warn_below, figure.bad_below, figure.warn_text)
        assert bool(figure.advice) == any(limit is not None for limit in limits), figure.id


def test_the_alerts_of_the_table_have_a_rule() -> None:
    rules = ROOT / "deploy" / "observability" / "prometheus" / "rules"
    files = [yaml.safe_load((rules / f"{service}.rules.yml").read_text()) for service in ("sigil", "relay")]
    alerts = {rule.get("alert") for file in files for group in file["groups"] for rule in group["rules"]}
    assert {figure.alert for figure in figures.load().figures() if figure.alert} - alerts == set()


def test_a_figure_has_a_past_also_while_it_is_zero() -> None:
    row = {"id": "n", "label": "n", "kind": "count", "unit": "count", "metric": "c_total", "where": {"status": ["500"]}}
    history = History(table_of([row]))
    for at in range(3):
        history.add('c_total{status="200"} 1', at, 0)
    assert list(history.past["n"]) == [0, 0, 0]


def test_an_answer_without_our_metrics_is_none() -> None:
    history = History(figures.load())
    for text in ("", "<html>", "go_goroutines 5\n", "\x00" * 100, "sigil_relay_up"):
        assert not history.add(text, 1, 1)
    assert not any(history.past.values())


def test_memory_is_bounded_for_any_answer() -> None:
    table = figures.load()
    history = History(table)
    many = "\n".join(f'sigil_http_requests_total{{status="2{at}"}} {at}' for at in range(30_000))
    buckets = "\n".join(f'sigil_push_duration_seconds_bucket{{le="{at}"}} {at}' for at in range(1000))
    for at in range(3):
        assert history.add(f"{buckets}\n{many}", at * 2, 0)
    assert len(history.past["http_requests"]) == 2
    assert sum(len(increase) for increase in history._steps[-1].increases.values()) <= 100 * 60
    for at in range(1000):
        history.add("sigil_relay_up 1", 10 + at, 0)
    assert len(history._steps) == 600
    assert len(history.past["relay_up"]) == table.kept


def test_a_clock_that_does_not_move_gives_no_rate() -> None:
    history = History(table_of([{"id": "r", "label": "r", "kind": "rate", "unit": "per_second", "metric": "c_total"}]))
    for value in (1, 2):
        history.add(f"c_total {value}", 5, 0)
    assert history.readings["r"].value is None
