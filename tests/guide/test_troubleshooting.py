"""docs/troubleshooting.md: each heading in `code` is a text that this project still prints."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from sigil.core.pushes.outbox import Push

ROOT = Path(__file__).resolve().parent.parent.parent
PAGE = ROOT / "docs" / "troubleshooting.md"
_HEADING = re.compile(r"^### (.+)$", re.MULTILINE)
_CODE = re.compile(r"`([^`]+)`")
OF_THE_GUIDE = {
    "SIGIL_MNEMONIC or SIGIL_MNEMONIC_PATH required",
    "Failed to connect to relay",
    "Push notification failed: 404 device not found",
    "Certificate verify failed",
    "challenge expired before response",
}


def headings() -> list[str]:
    return _HEADING.findall(PAGE.read_text(encoding="utf-8"))


def quoted() -> list[str]:
    return sorted({text for heading in headings() for text in _CODE.findall(heading)})


@cache
def printed() -> list[str]:
    """Every text of the sources: literals of Python, with a NUL for each value, and the other files as they are."""
    texts = []
    for folder in ("sigil", "relay"):
        for file in sorted((ROOT / folder).rglob("*.py")):
            texts += list(_literals(ast.parse(file.read_text(encoding="utf-8"))))
        texts += [file.read_text(encoding="utf-8") for file in (ROOT / folder).rglob("*.[jh][st]*")]
    for pattern in (
        "deploy/**/*.sh",
        "deploy/**/*.conf",
        "deploy/**/Caddyfile",
        "docker-compose*.yml",
        "deploy/*/*.yml",
    ):
        texts += [file.read_text(encoding="utf-8") for file in sorted(ROOT.glob(pattern))]
    return texts


def _literals(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "\0" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def as_pattern(text: str) -> re.Pattern[str]:
    """The parts between values, in their order."""
    return re.compile(".{0,80}?".join(re.escape(part) for part in text.split("…")), re.DOTALL)


def is_printed(text: str) -> bool:
    return any(as_pattern(text).search(source) for source in printed())


@pytest.mark.parametrize("text", quoted())
def test_a_quoted_text_is_in_the_source(text: str) -> None:
    assert is_printed(text)


def test_a_text_that_is_not_printed_is_found_missing() -> None:
    assert is_printed("cannot listen on … port …")
    assert not is_printed("cannot hear on … port …")


def test_each_text_of_the_guide_has_its_heading() -> None:
    found = {re.sub('[`"]', "", part) for heading in headings() for part in re.split('`, `|", "|`, "', heading)}
    assert found >= OF_THE_GUIDE


def test_each_warning_and_error_of_the_log_is_on_the_page() -> None:
    operations = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`[^|]+) \| ((?:warn|error|info)[^|]*) \|", operations, re.MULTILINE)
    page = PAGE.read_text(encoding="utf-8")
    events = [
        name
        for names, levels in rows
        for name, level in zip(re.findall(r"`(\w+)`", names), re.split(", ", levels) * 9, strict=False)
        if level in {"warn", "error"} and not name.startswith("_")
    ]
    assert len(events) > 30
    assert [event for event in events if f"`{event}`" not in page] == []


def messages_of_scripts() -> list[str]:
    """Each text with which a script of the stack ends, with a NUL for each value."""
    scripts = "".join(file.read_text(encoding="utf-8") for file in sorted((ROOT / "deploy" / "stack").glob("*.sh")))
    texts = re.findall(r'\bdie "((?:[^"\\]|\\.)*)"', scripts)
    return sorted({re.sub(r"\$\([^)]*\)|\$\{?[\w%/.]+\}?", "\0", text) for text in texts} - {"nothing was deleted"})


@pytest.mark.parametrize("message", messages_of_scripts())
def test_each_message_with_which_a_script_ends_has_a_heading(message: str) -> None:
    assert [text for text in quoted() if as_pattern(text).search(message)]


def test_each_heading_is_there_once() -> None:
    assert len(headings()) == len(set(headings()))


def test_the_documents_name_the_errors_that_a_challenge_reports_of_its_push() -> None:
    errors = {push.error for push in Push} - {None}
    protocol = (ROOT / "docs" / "protocol.md").read_text(encoding="utf-8")
    listed = re.search(r"^push\.error is one of ([a-z_, ]+);", protocol, re.MULTILINE)
    assert listed
    assert set(listed[1].split(", ")) == errors
    headed = re.findall(r"^### (.+)\nAs `push\.error`", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert {name for heading in headed for name in _CODE.findall(heading)} <= errors
