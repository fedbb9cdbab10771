"""The finding `attestation`: what is accepted, and Android's status list."""

from __future__ import annotations

import datetime
import json
from pathlib import Path

import pytest

from sigil.android_status.list_file import replace
from sigil.config.settings import load
from sigil.console.findings.result import Result
from sigil.doctor.attestation import check
from tests.config.test_settings import REQUIRED

NOW = datetime.datetime(2026, 11, 30, tzinfo=datetime.UTC)
DAY = 86_400
ANDROID = {"SIGIL_ANDROID_APPS": f"com.example.app:{'3b' * 32}"}
LIST = json.dumps({"entries": {"ab": {"status": "REVOKED"}}}).encode()


def found(**given: str) -> list[Result]:
    return list(check(load(REQUIRED | given), NOW))


def test_nothing_where_attestation_is_off() -> None:
    assert found() == []


def test_the_kinds_are_named() -> None:
    (result,) = found(SIGIL_ATTESTATION_KINDS="yubikey-piv", SIGIL_ATTESTATION_REQUIRED="true")
    assert (result.state, result.text) == ("ok", "required; accepted: yubikey-piv")


@pytest.mark.parametrize(("age", "state"), [(0, "ok"), (30 * DAY, "ok"), (30 * DAY + 1, "open")])
def test_an_old_list_is_open(tmp_path: Path, age: int, state: str) -> None:
    path = tmp_path / "status.json"
    replace(path, LIST, NOW.timestamp() - age)
    first, second = found(**ANDROID, SIGIL_ANDROID_STATUS_PATH=str(path))
    assert (first.text, second.state) == ("optional; accepted: android-key", state)
    assert second.text.startswith(f"Android's status list has 1 entries and is {age // DAY} days old")


def test_the_list_of_the_release_is_open_and_a_broken_file_failed(tmp_path: Path) -> None:
    assert [result.state for result in found(**ANDROID)] == ["ok", "open"]
    path = tmp_path / "status.json"
    given = {**ANDROID, "SIGIL_ANDROID_STATUS_PATH": str(path)}
    assert f"{path} does not exist" in found(**given)[1].text
    path.write_text("{")
    assert [result.state for result in found(**given)] == ["ok", "failed"]
