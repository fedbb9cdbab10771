"""Programs that start without standard input, output or error, or whose log cannot be written."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.flows.test_metrics import scrape
from tests.serving.running import ROOT
from tests.support.live import LiveServer, wait_until
from tests.support.live_relay import LiveRelay

CLOSED = [numbers for size in (1, 2, 3) for numbers in itertools.combinations((0, 1, 2), size)]
LOST = ("sigil_log_lines_dropped_total", ())


def run(module: str, *arguments: str, closed: tuple[int, ...], **environ: str) -> subprocess.CompletedProcess[bytes]:
    """A command without the descriptors `closed`."""
    redirections = " ".join(f"{number}<&-" for number in closed)
    command = ["sh", "-c", f'exec "$@" {redirections}', "sh", sys.executable, "-m", module, *arguments]
    return subprocess.run(
        command, cwd=ROOT, env={"PATH": os.environ["PATH"], **environ}, capture_output=True, check=False, timeout=120
    )


@pytest.mark.parametrize("closed", CLOSED, ids=str)
def test_a_command_that_writes_a_file_writes_nothing_else_into_it(tmp_path: Path, closed: tuple[int, ...]) -> None:
    file = tmp_path / "words"
    run("sigil", "mnemonic", "--out", str(file), closed=closed)
    assert len(file.read_text().split()) == 24


@pytest.mark.parametrize("module", ["sigil", "relay"])
@pytest.mark.parametrize("command", [["--help"], ["--version"], ["check-config", "--help"]], ids=str)
@pytest.mark.parametrize("closed", [numbers for numbers in CLOSED if 1 not in numbers], ids=str)
def test_a_command_needs_only_its_standard_output(module: str, command: list[str], closed: tuple[int, ...]) -> None:
    done = run(module, *command, closed=closed)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout


@pytest.mark.parametrize("module", ["sigil", "relay"])
def test_a_command_whose_output_is_lost_fails(module: str) -> None:
    done = run(module, "--version", closed=(1,))
    assert done.returncode != 0
    assert done.stderr


def files(directory: Path) -> Iterator[Path]:
    return (path for path in directory.rglob("*") if path.is_file())


@pytest.mark.parametrize("closed", CLOSED, ids=str)
def test_a_server_without_standard_descriptors_writes_its_log_into_no_other_file(closed: tuple[int, ...]) -> None:
    server = LiveServer(workers=1, SIGIL_STORE_SIZE="16MiB", LOG_LEVEL="debug")
    server.setup = " ".join(f"{number}<&-" for number in closed)
    with server, server.client() as client:
        assert (scrape(client)[LOST] > 0) == (1 in closed)
        for path in [*files(server.state), *files(server.certificate.parent)]:
            assert b'"event"' not in path.read_bytes(), path
        lines = server.log_path.read_text().splitlines()
    if 1 not in closed:
        assert "sigil_starting" in {json.loads(line)["event"] for line in lines}
    elif 2 not in closed:
        assert lines
        assert all("the log on standard output cannot be written: Bad file descriptor" in line for line in lines)
    else:
        assert lines == []


def test_a_relay_without_standard_descriptors_writes_its_log_into_no_other_file() -> None:
    relay = LiveRelay()
    relay.setup = "0<&- 1>&- 2>&-"
    relay.log_is_lost = True
    with relay:
        for path in files(relay.directory):
            assert b'"event"' not in path.read_bytes(), path


def test_a_log_on_a_full_disk_is_reported_on_standard_error(tmp_path: Path) -> None:
    server = LiveServer(workers=1, SIGIL_STORE_SIZE="16MiB")
    server.setup = "1>/dev/full"
    with server, server.client() as client:
        wait_until(lambda: scrape(client)[LOST] > 0, "the count of lost lines")
        (line,) = server.log_path.read_text().splitlines()
    assert (
        line
        == "sigil: the log on standard output cannot be written: No space left on device; lines are lost until it can"
    )
