"""Runs Locust as a subprocess: its import patches the whole process, so it is not imported here."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from loadtest.locust_run.outcome import Live, Outcome, Settings
from loadtest.locust_run.progress import Progress
from loadtest.usage import ProcessUsage, children
from sigil.protocol.keys import Suite
from tests.support.ports import free_port

ROOT = Path(__file__).resolve().parents[2]
_SAMPLE_SECONDS = 0.25
_REPORT_SECONDS = 4
"""Between the end of the load and the stop of Locust: its workers report every 3 s."""
_SPARE_SECONDS = 60
_END_SECONDS = 10


class LocustFailed(Exception):
    """Locust ended early, did not end in time, or wrote no results."""


@dataclass(frozen=True)
class Load:
    """One run. `reports` is the path of its output files without suffix: .html, .json and .log."""

    suite: Suite
    seconds: int
    processes: int
    users: int
    reports: Path


@dataclass(frozen=True)
class Target:
    url: str
    ca: str | None
    api_key: str


def run(load: Load, target: Target, usage: ProcessUsage, progress: Progress) -> Outcome:
    """Blocks until Locust ends, samples the usage of all processes, and shows the progress.

    LocustFailed if there are no results.
    """
    outcome_file = load.reports.with_suffix(".json")
    live_file = load.reports.with_suffix(".live")
    settings = Settings(load.suite, target.ca, load.seconds, str(outcome_file), str(live_file))
    environ = {
        "PATH": os.environ.get("PATH", ""),
        "SIGIL_LOAD": msgspec.json.encode(settings).decode(),
        # Not on the command line, which every user of the machine can read.
        "SIGIL_API_KEY": target.api_key,
    }
    with _started(_command(load, target.url), environ, load.reports.with_suffix(".log")) as locust:
        deadline = time.monotonic() + load.seconds + _REPORT_SECONDS + _SPARE_SECONDS
        workers: dict[int, str] = {}
        while locust.poll() is None:
            if time.monotonic() > deadline:
                raise LocustFailed("Locust did not end in time.")
            for pid in children(locust.pid):
                usage.watch(workers.setdefault(pid, f"locust worker {len(workers) + 1}"), pid)
            usage.watch("locust master", locust.pid)
            usage.sample()
            progress.show(_live(live_file))
            time.sleep(_SAMPLE_SECONDS)
    live_file.unlink(missing_ok=True)
    # Exit code 1 means failed requests, which are part of the results.
    if locust.returncode not in {0, 1} or not outcome_file.exists():
        log = load.reports.with_suffix(".log").read_text(encoding="utf-8", errors="replace")
        raise LocustFailed(f"Locust wrote no results (exit code {locust.returncode}):\n{log[-2000:]}")
    return msgspec.json.decode(outcome_file.read_bytes(), type=Outcome)


def _live(file: Path) -> Live | None:
    """The figures that Locust's master wrote last; None before its workers have reported."""
    try:
        return msgspec.json.decode(file.read_bytes(), type=Live)
    except FileNotFoundError:
        return None


def _command(load: Load, url: str) -> list[str]:
    port = str(free_port())
    options = {
        "--locustfile": str(Path(__file__).with_name("scenario.py")),
        "--host": url,
        "--users": str(load.users),
        "--spawn-rate": str(min(load.users, 100 * load.processes)),
        "--run-time": f"{load.seconds + _REPORT_SECONDS}s",
        "--processes": str(load.processes),
        "--expect-workers-max-wait": "30",
        "--html": str(load.reports.with_suffix(".html")),
        # The master of Locust trusts every client. By default it listens on all addresses.
        "--master-bind-host": "127.0.0.1",
        "--master-bind-port": port,
        "--master-port": port,
    }
    arguments = [argument for option in options.items() for argument in option]
    return [sys.executable, "-m", "locust", "--headless", "--only-summary", *arguments]


@contextmanager
def _started(command: list[str], environ: dict[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as output:
        # A new session, so that all its processes are ended together.
        process = subprocess.Popen(  # noqa: S603
            command,
            env=environ,
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        _stop(process)


def _stop(process: subprocess.Popen[bytes]) -> None:
    for signal_number in (signal.SIGTERM, signal.SIGKILL):
        if process.poll() is not None:
            return
        os.killpg(process.pid, signal_number)
        try:
            process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            continue
