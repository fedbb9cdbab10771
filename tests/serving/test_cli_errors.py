"""Which errors of a command end in one line, and which stay a traceback."""

from __future__ import annotations

import pytest

from sigil.serving.cli_errors import CliErrors
from sigil.serving.settings import ConfigError
from sigil.serving.startup_error import StartupError


class DatabaseDown(Exception):
    pass


ERRORS = CliErrors("tool", {"granian": "server"}, {DatabaseDown: "no database"})


@pytest.mark.parametrize(
    ("error", "lines"),
    [
        (ConfigError(["A: is wrong", "B: is wrong"]), "tool: A: is wrong\ntool: B: is wrong\n"),
        (StartupError("the port is taken"), "tool: the port is taken\n"),
        (DatabaseDown(), "tool: no database\n"),
        (DatabaseDown("wrong password"), "tool: wrong password\n"),
        (
            ModuleNotFoundError(name="granian.server"),
            "tool: granian is not installed: run pip install '.[server]' in a checkout of this repository\n",
        ),
    ],
)
def test_an_expected_error_is_lines_on_stderr_and_exit_code_1(
    error: Exception, lines: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended, ERRORS:
        raise error
    assert ended.value.code == 1
    assert capsys.readouterr() == ("", lines)


@pytest.mark.parametrize("error", [ModuleNotFoundError(name="sigil.typo"), ImportError(), ValueError("bug")])
def test_any_other_error_passes_through(error: Exception) -> None:
    with pytest.raises(type(error)) as raised, ERRORS:
        raise error
    assert raised.value is error
