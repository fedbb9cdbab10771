"""`.env.example` lists every setting of both services and every variable of the Compose files, with its default."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from relay import config as relay_config
from sigil.config import settings as sigil_config
from tests.config.test_settings import REQUIRED, names_read_by

ROOT = Path(__file__).resolve().parent.parent.parent
COMPOSE_FILES = sorted([*ROOT.glob("docker-compose*.yml"), *ROOT.glob("deploy/*/docker-compose*.yml")])
_VARIABLE = re.compile(r"\$\{(\w+)(?::?-([^}]*)|:?\?[^}]*)?\}")
_SETTING = re.compile(r"#([A-Z][A-Z0-9_]*)=(.*)\Z")


def lines() -> list[str]:
    return (ROOT / ".env.example").read_text(encoding="utf-8").splitlines()


def listed() -> dict[str, str]:
    """Each variable with the default that `.env.example` shows."""
    return {found[1]: found[2].strip("'") for line in lines() if (found := _SETTING.match(line))}


def settings_of_services() -> set[str]:
    return names_read_by(sigil_config.load) | names_read_by(relay_config.load)


def variables_of_compose_files() -> dict[str, set[str]]:
    """Each variable with the defaults that the Compose files give it."""
    found: dict[str, set[str]] = {}
    for file in COMPOSE_FILES:
        text = re.sub(r"^\s*#.*$|\$\$", "", file.read_text(encoding="utf-8"), flags=re.MULTILINE)
        for name, default in _VARIABLE.findall(text):
            found.setdefault(name, set()).add(default)
    return found


def fixed() -> set[str]:
    """The settings that `.env.example` names as fixed by the containers, or as not built."""
    text = "\n".join(lines()).partition("## Settings that have no line above")[2]
    return set(re.findall(r"\b[A-Z][A-Z0-9_]{3,}\b", text))


def test_every_setting_of_both_services_is_listed_or_named_as_fixed() -> None:
    assert sorted(settings_of_services() - variables_of_compose_files().keys()) == sorted(fixed())


def test_the_listed_variables_are_those_of_the_compose_files() -> None:
    assert sorted(variables_of_compose_files().keys() - listed().keys()) == []
    if (ROOT / "docker-compose.prod.yml").exists():
        assert sorted(listed().keys() - variables_of_compose_files().keys()) == []


@pytest.mark.parametrize("name", sorted(listed()))
def test_the_listed_default_is_that_of_the_service_or_of_a_compose_file(name: str) -> None:
    value = listed()[name]
    given_by_compose = variables_of_compose_files().get(name, set()) - {""}
    if value in given_by_compose:
        return
    # docker-compose.prod.yml may have another default than the service.
    assert name in settings_of_services() or not given_by_compose
    if value and name in settings_of_services():
        for load, required in ((sigil_config.load, REQUIRED), (relay_config.load, {})):
            assert load({**required, name: value}) == load(required)


def test_the_file_sets_nothing_until_a_line_is_changed() -> None:
    assert [line for line in lines() if line and not line.startswith("#")] == []


def test_no_variable_is_listed_twice() -> None:
    assert len(listed()) == sum(1 for line in lines() if _SETTING.match(line))
