"""The man pages: those of the checkout are current, complete, and correct for man-db and mandoc."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from deploy.tools.man_pages import pages
from tests.console.test_streams import EVERY
from tests.support.live import DEADLINE

PAGES = pages()
each_page = pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)


@each_page
def test_the_page_is_that_of_the_commands(path: Path) -> None:
    assert path.read_text(encoding="ascii") == PAGES[path], "run python -m deploy.tools.man_pages"


def test_every_command_is_described() -> None:
    text = "".join(PAGES.values()).replace("\\-", "-")
    assert [command for command in EVERY if f".SS {command} " not in text] == []


@each_page
def test_man_finds_no_fault(path: Path) -> None:
    if not shutil.which("man"):
        pytest.skip("man is not installed")
    shown = subprocess.run(
        ["man", "--warnings", "-l", str(path)], capture_output=True, text=True, check=True, timeout=DEADLINE
    )
    assert shown.stderr == ""
    assert "User Commands" in shown.stdout


@each_page
def test_mandoc_finds_no_fault(path: Path) -> None:
    if not shutil.which("mandoc"):
        pytest.skip("mandoc is not installed")
    command = ["mandoc", "-T", "lint", "-W", "warning", str(path)]
    linted = subprocess.run(command, capture_output=True, text=True, check=False, timeout=DEADLINE)
    # A date would change the page with nothing else.
    assert [line for line in (linted.stdout + linted.stderr).splitlines() if "missing date" not in line] == []
