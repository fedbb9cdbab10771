"""docs/runbook.md: what it names exists: log events, metrics, commands, options, settings, findings, alerts."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import click
import pytest
import yaml

from relay.cli.commands import relay as relay_command
from sigil.cli.commands import sigil as sigil_command
from tests.guide.test_troubleshooting import printed

ROOT = Path(__file__).resolve().parent.parent.parent
DOCS = ROOT / "docs"
PAGE = (DOCS / "runbook.md").read_text(encoding="utf-8")
RULES = sorted((ROOT / "deploy" / "observability" / "prometheus" / "rules").glob("*.rules.yml"))
SYMPTOMS, _, ALERTS = PAGE.partition("\n## Alerts\n")
EXAMPLES = [json.loads(line) for line in re.findall(r'^\{"level".*\}$', PAGE, re.MULTILINE)]
SPANS = sorted(set(re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", PAGE, flags=re.MULTILINE | re.DOTALL))))
_COMMANDS = {"sigil": sigil_command, "sigil-relay": relay_command}
_METRIC = re.compile(r"\b(?:sigil|relay)_[a-z_]+\b")
_SETTING = re.compile(r"\b[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+\b")
# A code of Google, and a member of a line.
_NO_EVENTS = {"invalid_grant", "held_store_lock"}
# Error codes of responses.
_NO_SETTINGS = {"TOO_MANY_PENDING", "RATE_LIMITED", "NOT_INITIALIZED"}


@cache
def text_of(*names: str) -> str:
    return "\n".join((ROOT / name).read_text(encoding="utf-8") for name in names)


def words_of_commands() -> Iterator[list[str]]:
    """The words of each command of the two services, without what leads to it in containers."""
    blocks = "\n".join(re.findall(r"^```sh\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)).splitlines()
    for text in (*SPANS, *blocks):
        words = shlex.split(re.sub(r"^docker-compose exec (sigil|relay) ", "", text), comments=True)
        if words and words[0] in _COMMANDS and len(words) > 1:
            yield words


@pytest.mark.parametrize("words", [*words_of_commands()], ids=" ".join)
def test_each_command_and_option_exists(words: list[str]) -> None:
    command: click.Command = _COMMANDS[words[0]]
    context = click.Context(command)
    for word in words[1:]:
        if isinstance(command, click.Group) and not word.startswith("-"):
            found = command.get_command(context, word)
            if found is not None:
                command = found
                continue
        if word.startswith("-"):
            assert word in {option for parameter in command.params for option in parameter.opts}, word
        else:
            # A place for an argument is in capitals.
            assert word.isupper(), f"{words[0]} has no command {word}"
            assert any(isinstance(parameter, click.Argument) for parameter in command.params)


def test_each_target_of_make_exists() -> None:
    targets = set(re.findall(r"`make ([a-z-]+)`", PAGE))
    assert targets <= set(re.findall(r"^([a-z-]+):", text_of("Makefile"), re.MULTILINE))


def documented_events() -> set[str]:
    rows = re.findall(r"^\| (`[^|]+) \| (?:warn|error|info)", text_of("docs/operations.md"), re.MULTILINE)
    return {name for row in rows for name in re.findall(r"`(\w+)`", row)}


def test_each_metric_is_one_of_the_documented_metrics() -> None:
    documented = text_of("docs/observability.md")
    names = {name for span in SPANS for name in _METRIC.findall(span)} - documented_events()
    assert len(names) > 20
    for name in names:
        base = re.sub(r"_(?:bucket|count|sum)$", "", name)
        assert f"`{base}" in documented or f"`…_{base.split('_', 1)[1]}" in documented, name


def test_each_event_is_one_that_is_logged() -> None:
    named = {span for span in SPANS if re.fullmatch(r"[a-z]+(?:_[a-z]+)+", span) and not _METRIC.fullmatch(span)}
    assert len(named) > 30
    assert sorted(named - set(printed()) - _NO_EVENTS) == []


def test_each_event_of_a_log_line_is_documented() -> None:
    assert len(EXAMPLES) > 12
    assert {example["event"] for example in EXAMPLES} <= documented_events()


def test_each_setting_is_documented() -> None:
    documented = text_of(
        "docs/configuration.md", "docs/relay.md", ".env.example", "docs/deployment.md", "docs/webhooks.md"
    )
    settings = {name for span in SPANS for name in _SETTING.findall(span)} - _NO_SETTINGS
    assert len(settings) > 15
    assert [name for name in sorted(settings) if name not in documented] == []


def test_each_finding_is_one_of_a_doctor() -> None:
    found = re.findall(r"\bfindings? ((?:`\w+`(?:, | and )?)+)", PAGE, re.IGNORECASE)
    names = {name for group in found for name in re.findall(r"`(\w+)`", group)}
    assert len(names) >= 12
    sources = "".join(
        file.read_text(encoding="utf-8")
        for folder in ("sigil/doctor", "relay/doctor", "sigil/preflight")
        for file in (ROOT / folder).glob("*.py")
    )
    assert [name for name in sorted(names) if f'"{name}"' not in sources and "provider_" not in name] == []


def test_each_alert_has_its_heading_and_each_heading_is_an_alert() -> None:
    names = {
        rule["alert"]
        for path in RULES
        for group in yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]
        for rule in group["rules"]
    }
    headings = re.findall(r"^### (.+)$", ALERTS, re.MULTILINE)
    assert sorted(headings) == sorted(names)


def test_each_alert_has_a_meaning_a_first_command_and_a_mend() -> None:
    for section in ALERTS.split("\n### ")[1:]:
        heading, meaning, rest = section.split("\n", 2)
        assert meaning.strip(), heading
        assert re.search(r"\*\*First:\*\* .*`.+`|\*\*First:\*\* the page Targets", rest), heading
        assert "**Mend:** " in rest, heading


def test_each_symptom_is_in_the_table_at_the_top_and_has_a_command_and_a_query() -> None:
    table, *sections = SYMPTOMS.split("\n### ")
    headings = [section.split("\n", 1)[0] for section in sections]
    linked = re.findall(r"^\| \[([^\]]+)\]\(#", table, re.MULTILINE)
    assert linked == headings
    for section in sections:
        assert "**Command:** " in section
        assert "**Query:** " in section
