"""Colours and the countdown: on a terminal, and nowhere else."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import time

import pytest

from tests.support.live import DEADLINE

COUNTDOWN = """
import time
from sigil.console.countdown import countdown, countdown_before_prompt
with countdown("Waiting", 60):
    time.sleep(1.5)
with countdown_before_prompt(60) as seconds:
    print(f"<{seconds}>", flush=True)
"""
ERROR = "from sigil.console.errors import write_error; write_error('sigil', 'no')"


def on_terminal(program: str, **variables: str) -> str:
    """What the program writes to standard error, a terminal of its own session."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execve(  # noqa: S606
            sys.executable, [sys.executable, "-c", program], {"PATH": os.environ["PATH"], "TERM": "xterm", **variables}
        )
    seen, deadline = b"", time.monotonic() + DEADLINE
    try:
        while time.monotonic() < deadline:
            seen += os.read(terminal, 65536)
    except OSError:
        pass
    finally:
        os.waitpid(pid, 0)
        os.close(terminal)
    return seen.decode()


def piped(program: str, **variables: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"PATH": os.environ["PATH"], "TERM": "xterm", **variables},
        capture_output=True,
        text=True,
        check=True,
        timeout=DEADLINE,
    )
    return done.stderr + done.stdout


def test_a_countdown_is_shown_and_removed() -> None:
    seen = on_terminal(COUNTDOWN)
    assert "\rWaiting: 60 s\x1b[K" in seen
    assert "\rWaiting: 59 s\x1b[K" in seen
    assert seen.endswith("\r\x1b[K<[ 60 s] >\r\n")


def test_a_pipe_gets_no_countdown() -> None:
    assert piped(COUNTDOWN) == "<>\n"


@pytest.mark.parametrize(
    ("variables", "coloured"),
    [({}, True), ({"NO_COLOR": "1"}, False), ({"NO_COLOR": ""}, True), ({"TERM": "dumb"}, False)],
)
def test_an_error_on_a_terminal_is_coloured(variables: dict[str, str], coloured: bool) -> None:
    assert on_terminal(ERROR, **variables).strip() == ("\x1b[31msigil:\x1b[0m no" if coloured else "sigil: no")


@pytest.mark.parametrize(
    ("variables", "coloured"),
    [
        ({}, False),
        ({"FORCE_COLOR": "1"}, True),
        ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, False),
        ({"FORCE_COLOR": ""}, False),
    ],
)
def test_a_pipe_is_coloured_only_when_forced(variables: dict[str, str], coloured: bool) -> None:
    assert ("\x1b" in piped(ERROR, **variables)) == coloured
