"""Logs on a terminal are for people; everywhere else they are JSON."""

from __future__ import annotations

import os
import pty
import subprocess
import sys

import pytest

from sigil.serving.log_output.terminal_lines import terminal_line
from tests.support.live import DEADLINE

PROGRAM = """
from sigil.serving import logs
logs.configure("sigil", "info")
logs.info("server_starting", port=8443, tls=True, name="two words", none=None)
logs.warn("trouble", message="look \\x1b[31mhere", key="sgk_live_" + "a" * 64)
logs.flush()
"""


def on_terminal(**variables: str) -> str:
    ours, theirs = pty.openpty()
    environment = {"PATH": os.environ["PATH"], "TERM": "xterm", **variables}
    try:
        subprocess.run([sys.executable, "-c", PROGRAM], stdout=theirs, env=environment, check=True, timeout=DEADLINE)
        return os.read(ours, 65536).decode()
    finally:
        os.close(theirs)
        os.close(ours)


def test_a_terminal_gets_lines_for_people_in_colour() -> None:
    first, second = on_terminal().splitlines()
    assert first.endswith('sigil info  server_starting  port=8443 tls=true name="two words" none=null')
    assert first.startswith("\x1b[2m")
    assert "\x1b[33msigil warn  trouble" in second
    assert "look \\u{1b}[31mhere" in second
    assert "aaaa" not in second


def test_no_color_keeps_the_lines_without_colour() -> None:
    assert "\x1b" not in on_terminal(NO_COLOR="1")
    assert "info  server_starting" in on_terminal(NO_COLOR="1")


@pytest.mark.parametrize("variables", [{"TERM": "dumb"}, {"TERM": ""}])
def test_a_terminal_without_a_cursor_gets_json(variables: dict[str, str]) -> None:
    assert all(line.startswith("{") for line in on_terminal(**variables).splitlines())


@pytest.mark.parametrize("variables", [{}, {"FORCE_COLOR": "1"}])
def test_a_pipe_gets_json(variables: dict[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={"PATH": os.environ["PATH"], "TERM": "xterm", **variables},
        capture_output=True,
        text=True,
        check=True,
        timeout=DEADLINE,
    )
    assert all(line.startswith('{"timestamp"') for line in done.stdout.splitlines())
    assert "\x1b" not in done.stdout


def test_a_line_is_bounded() -> None:
    line = b'{"timestamp":"2026-01-01T00:00:00.000Z","level":"info","event":"e","text":"' + "é".encode() * 3000 + b'"}'
    assert len(terminal_line(line, colours=True)) < 4096
