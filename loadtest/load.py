"""Complete challenges per second under Locust: create, answer and status, from several processes.

    python -m loadtest.load                          starts a server of its own, with 2 workers
    python -m loadtest.load --url URL --ca FILE      loads a running one; the API key comes from SIGIL_API_KEY

loadtest/README.md explains the output.
"""

from __future__ import annotations

import argparse
import os
import signal
import time
from collections.abc import Mapping
from pathlib import Path

from loadtest.locust_run import outcome, report
from loadtest.locust_run.outcome import Fault
from loadtest.locust_run.picture import draw
from loadtest.locust_run.processes import ROOT, Load, LocustFailed, Target, run
from loadtest.locust_run.progress import Progress
from loadtest.server import calibrate, live_server
from loadtest.usage import ProcessUsage, server_processes
from loadtest.verdict import judge
from sigil.protocol.keys import SUITES, Suite


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url")
    parser.add_argument("--ca", help="certificate to trust")
    parser.add_argument("--suite", choices=[*SUITES, "all"], default="ES256", help="all: one after the other")
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--processes", type=int, default=2, help="of Locust, in addition to its master")
    parser.add_argument("--users", type=int, default=64, help="each is a device on its own connection")
    parser.add_argument("--workers", type=int, default=2, help="of the server that is started")
    parser.add_argument(
        "--at-least", type=float, default=1000, help="complete challenges/s; below it a run on a quiet machine fails"
    )
    parser.add_argument("--reports", type=Path, default=ROOT / ".load", help="directory; default: .load")
    options = parser.parse_args()
    if options.seconds < 2 or options.processes < 1 or options.users < options.processes:
        parser.error("needs --seconds of at least 2, at least one process, and at least one user per process")
    if options.url and "SIGIL_API_KEY" not in os.environ:
        parser.error("--url needs SIGIL_API_KEY in the environment")
    return options


def _load(options: argparse.Namespace, target: Target, server: Mapping[str, int]) -> bool:
    """Runs each suite in turn; whether all passed. `server` has the process ids of the server, if they are known."""
    options.reports.mkdir(parents=True, exist_ok=True)
    chosen = [suite for suite in SUITES if options.suite in {suite, "all"}]
    results = [_suite(suite, options, target, ProcessUsage(server)) for suite in chosen]
    return all(results)


def _suite(suite: Suite, options: argparse.Namespace, target: Target, usage: ProcessUsage) -> bool:
    started = time.strftime("%Y%m%d-%H%M%S")
    load = Load(suite, options.seconds, options.processes, options.users, options.reports / f"{started}-{suite}")
    print(f"{suite}: {load.users} users in {load.processes} processes for {load.seconds} s", flush=True)
    before = calibrate(0.5)
    try:
        with Progress(load.seconds) as progress:
            result = run(load, target, usage, progress)
    except LocustFailed as error:
        print(f"  FAILED: {error}")
        return False
    seconds = outcome.window(result, load.seconds)
    used = usage.between(seconds.start, seconds.stop)
    faults = outcome.faults(result, load.users) + [Fault(f"{name} ended during the run", 1) for name in used.gone]
    run_report = report.Run(result, used, load.seconds, (before + calibrate(0.5)) / 2, faults)
    for line in report.lines(run_report):
        print(line)
    print(f"  report {load.reports.with_suffix('.html')}")
    picture = load.reports.with_suffix(".svg")
    draw(run_report, f"{suite}, {load.users} users, {started}", picture)
    print(f"  picture {picture}")
    # The processes of a server that already ran would count among the others.
    others = run_report.others if used.cores("server") else None
    errors = sum(fault.times for fault in faults)
    verdict = judge(run_report.rate, options.at_least, "complete challenges/s", errors, others)
    print(f"  {verdict.line}", flush=True)
    return not verdict.failed


def main() -> int:
    """Exit code 1 after any error, and when a suite stays below --at-least and other processes did not disturb it."""
    options = _options()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if options.url:
        target = Target(options.url, options.ca, os.environ["SIGIL_API_KEY"])
        return 0 if _load(options, target, {}) else 1
    with live_server(options.workers) as server:
        target = Target(server.url, str(server.certificate), server.api_key)
        processes = server_processes(server.pid, server.workers())
        return 0 if _load(options, target, processes) else 1


if __name__ == "__main__":
    raise SystemExit(main())
