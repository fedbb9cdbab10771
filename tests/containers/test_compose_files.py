"""The compose files and `.env`: both versions of Compose read them alike, without a warning."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.containers.stack import V1, V2, Stack

# Not `${NAME}`, which Compose 1 replaces in single quotes too, and no doubled backslash, which it makes a single one.
NAME = """$HOME $$ "double" back\\slash # hash é 🙂"""


@pytest.mark.parametrize("compose", [V2, V1])
def test_the_development_files_are_valid_and_without_warnings(tmp_path: Path, compose: str) -> None:
    done = Stack(tmp_path, compose).compose("config", "--quiet")
    assert done.stdout + done.stderr == ""


def effective(folder: Path, compose: str, **settings: str) -> dict[str, dict[str, Any]]:
    text = Stack(folder, compose, default_names=True, **settings).compose("config").stdout
    services: dict[str, dict[str, Any]] = yaml.safe_load(text)["services"]
    # Only Compose 1 lists services of a profile that is not chosen.
    return {name: service for name, service in services.items() if "profiles" not in service}


def test_both_versions_give_every_service_the_same_settings(tmp_path: Path) -> None:
    first, second = (effective(tmp_path / version, version) for version in (V1, V2))
    assert set(first) == set(second)
    for name, service in first.items():
        other = second[name]
        for key in (
            "image",
            "environment",
            "user",
            "read_only",
            "cap_drop",
            "cap_add",
            "security_opt",
            "init",
            "restart",
        ):
            assert service.get(key) == other.get(key), (name, key)


@pytest.mark.parametrize("compose", [V2, V1])
def test_a_value_in_single_quotes_arrives_as_it_is(tmp_path: Path, compose: str) -> None:
    with Stack(tmp_path, compose, SIGIL_SERVER_NAME=NAME, SIGIL_IMAGE="busybox:1.37") as stack:
        stack.compose("up", "--no-start", "--no-build", "--no-deps", "sigil")
        assert f"SIGIL_SERVER_NAME={NAME}" in stack.inspect("sigil")["Config"]["Env"]


@pytest.mark.parametrize("compose", [V2, V1])
def test_an_empty_variable_and_an_absent_one_give_the_default(tmp_path: Path, compose: str) -> None:
    empty = effective(tmp_path / "empty", compose, SIGIL_MODE="", SIGIL_EDGE_NET="", RELAY_PORT="", STATE_IMAGE="")
    absent = effective(tmp_path / "absent", compose)
    for service in (*empty.values(), *absent.values()):
        service.pop("build", None)  # names the folder
    assert empty == absent
