"""The report: for people, on terminals of any width, and as JSON."""

from __future__ import annotations

import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from contextlib import suppress
from fcntl import ioctl
from pathlib import Path

import pytest

from sigil.console.findings.report import Report
from sigil.console.findings.result import failed, ok, still_open
from tests.support.live import LiveServer

RESULTS = [ok("swap", "off"), failed("relay", "is down", "start it"), still_open("clock", "is late", "set it")]
GROUPS = {"Relay": ("relay", "clock"), "Host": ("swap",)}
_ESCAPE = re.compile(r"\x1b\[[0-9;]*m")


@pytest.fixture(scope="module")
def environ() -> Iterator[dict[str, str]]:
    server = LiveServer()
    yield server.environ
    server.__exit__(None, None, None)


def report(*results: object) -> Report:
    return Report("sigil", "1.0", "2026-11-30T13:51:43Z", GROUPS, results or RESULTS)  # type: ignore[arg-type]


def test_the_text_is_grouped_and_ends_with_what_to_do_first() -> None:
    assert report().as_text().splitlines() == [
        "Relay",
        "  failed  relay          is down; start it",
        "  open    clock          is late; set it",
        "Host",
        "  ok      swap           off",
        "1 failed, 1 open, 1 ok; first relay: start it",
    ]
    assert report(ok("swap", "off")).as_text().splitlines()[-1] == "0 failed, 0 open, 1 ok"


def test_the_object_has_the_documented_members() -> None:
    found = json.loads(report().as_json())
    assert {name: found[name] for name in found if name != "findings"} == {
        "schema": 1, "program": "sigil", "version": "1.0", "checked_at": "2026-11-30T13:51:43Z",
        "failed": 1, "open": 1, "ok": 1,
    }  # fmt: skip
    assert found["findings"][0] == {"name": "relay", "state": "failed", "text": "is down", "next_step": "start it"}


def test_only_a_failed_finding_makes_the_exit_code_1() -> None:
    assert report().exit_code == 1
    assert report(RESULTS[0], RESULTS[2]).exit_code == 0


def on_a_terminal(environ: dict[str, str], columns: int) -> str:
    master, slave = pty.openpty()
    ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    running = subprocess.Popen(
        [sys.executable, "-m", "sigil", "doctor"],
        env={**environ, "TERM": "xterm"}, stdin=slave, stdout=slave, stderr=slave,
    )  # fmt: skip
    os.close(slave)
    shown = b""
    with suppress(OSError):
        while part := os.read(master, 65536):
            shown += part
    os.close(master)
    assert running.wait(60) == 1
    return shown.decode()


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_lines_fit_the_terminal_and_have_colours(environ: dict[str, str], columns: int) -> None:
    shown = on_a_terminal(environ, columns)
    assert "\x1b[31mfailed\x1b[0m" in shown
    lines = _ESCAPE.sub("", shown).splitlines()
    # A path or an address is not broken.
    assert all(len(line) <= columns for line in lines if " " in line.strip()), lines


def test_options_of_the_group_belong_after_a_subcommand(environ: dict[str, str]) -> None:
    command = [sys.executable, "-m", "sigil", "doctor", "--json", "push", "0123456789ab"]
    ended = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 2
    assert "put the options after `push`" in ended.stderr


def test_an_output_that_takes_nothing_is_one_line(environ: dict[str, str]) -> None:
    with Path("/dev/full").open("w", encoding="ascii") as full:
        ended = subprocess.run(
            [sys.executable, "-m", "sigil", "doctor"],
            env=environ, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, check=False,
        )  # fmt: skip
    assert ended.returncode == 1
    assert ended.stderr.count("\n") == 1
    assert "standard output" in ended.stderr
