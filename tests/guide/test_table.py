"""docs/self-hosting-guide.md: every test, file and setting that its tables name exists."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

from relay import config as relay_config
from sigil.config import settings as sigil_config
from tests.config.test_env_example import fixed, listed
from tests.config.test_settings import names_read_by

ROOT = Path(__file__).resolve().parent.parent.parent
PAGE = ROOT / "docs" / "self-hosting-guide.md"
# Variables of other programs.
FOREIGN = {"SIGIL_API_KEY", "SIGIL_API_KEY_FILE"}
_TEST = re.compile(r"`(tests/[\w/]+\.py)(?:::(\w+))?`")
_SETTING = re.compile(r"(?<![\w`])`([A-Z][A-Z0-9]*_[A-Z0-9_]+)(?:=[^`]*)?`")
_REFERENCE = re.compile(r"`|\]\(|the same (test|variable)|as for")


class Row(NamedTuple):
    """A line of a table, without the heads."""

    guide: str
    state: str
    where: str


def rows() -> list[Row]:
    lines = (line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| "))
    cells = (re.split(r"(?<!\\) ?\| ?", line.strip("| ")) for line in lines)
    return [Row(*cell, *[""] * (3 - len(cell))) for cell in cells if len(cell) > 1 and cell[1] in STATES]


STATES = ("true", "differs", "not built yet")


@cache
def names_in(file: Path) -> set[str]:
    """The names of the functions in a file of tests, those in classes included."""
    return {node.name for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))) if _is_function(node)}  # type: ignore[attr-defined]


def _is_function(node: ast.AST) -> bool:
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)


def test_the_tables_have_their_rows_and_no_other_state() -> None:
    text = PAGE.read_text(encoding="utf-8")
    in_tables = [line for line in text.splitlines() if line.startswith("| ")]
    heads = [line for line in in_tables if line.startswith(("| the guide |", "| --- |", "| state |"))]
    legend = len(STATES)
    assert len(rows()) == len(in_tables) - len(heads) - legend
    assert len(rows()) > 100


@pytest.mark.parametrize("row", rows(), ids=lambda row: row.guide[:60])
def test_every_row_names_what_exists(row: Row) -> None:
    for file, name in _TEST.findall(row.where):
        assert (ROOT / file).exists(), file
        assert not name or name in names_in(ROOT / file), f"{file}::{name}"
    known = names_read_by(sigil_config.load) | names_read_by(relay_config.load) | listed().keys() | fixed() | FOREIGN
    for text in (row.guide, row.where):
        assert set(_SETTING.findall(text)) <= known


@pytest.mark.parametrize("row", rows(), ids=lambda row: row.guide[:60])
def test_a_row_that_is_true_says_where_and_one_that_differs_says_why(row: Row) -> None:
    if row.state == "true":
        assert _REFERENCE.search(row.where), "name a test, a file, a setting or a page"
    if row.state == "differs":
        assert row.where
