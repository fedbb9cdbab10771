"""Runs benchmarks as tests, compares them with the baseline at the end, and prints one table."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench import baseline, report
from bench.comparison import Outcome, Verdict, compare, is_disturbed
from bench.measuring import Measure, Run
from bench.tolerances import TOLERANCES

HERE = Path(__file__).parent
_RUN: pytest.StashKey[Run] = pytest.StashKey()
_RENEW = "--renew-baseline"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(_RENEW, action="store_true", help="write the results of all benchmarks to bench/baseline.json")


def pytest_configure(config: pytest.Config) -> None:
    renewing = config.getoption(_RENEW)
    if renewing and not _whole(config):
        raise pytest.UsageError(f"{_RENEW} needs all benchmarks: run `pytest bench` and nothing else")
    config.stash[_RUN] = Run(baseline.NOTHING if renewing else baseline.load(), renewing)


def _whole(config: pytest.Config) -> bool:
    """Whether all benchmarks were selected."""
    chosen = config.getoption("keyword") or config.getoption("markexpr")
    return not chosen and [Path(argument).resolve() for argument in config.args] == [HERE]


@pytest.fixture
def measure(request: pytest.FixtureRequest, benchmark: BenchmarkFixture) -> Measure:
    """The benchmark is named after the test: `test_sign[ES256]` is `sign, ES256`."""
    name = request.node.name.removeprefix("test_").replace("_", " ").replace("[", ", ").rstrip("]")
    return Measure(name, benchmark, request.config.stash[_RUN])


@pytest.fixture
def memory_directory() -> Iterator[Path]:
    """An empty directory on tmpfs, or elsewhere on a host without tmpfs."""
    memory = Path("/dev/shm")  # noqa: S108
    with tempfile.TemporaryDirectory(prefix="sigil-bench-", dir=memory if memory.is_dir() else None) as path:
        yield Path(path)


def _verdicts(config: pytest.Config) -> list[Verdict]:
    run = config.stash[_RUN]
    return compare(run.figures, run.baseline.benchmarks, TOLERANCES, whole=_whole(config))


def pytest_sessionfinish(session: pytest.Session) -> None:
    run = session.config.stash[_RUN]
    if session.exitstatus != pytest.ExitCode.OK:
        return
    if run.renewing and any(map(is_disturbed, run.figures.values())):
        # Compared with a disturbed baseline, every later regression would pass.
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
    elif run.renewing:
        renewed = baseline.of_this_machine(run.calibration, run.figures)
        baseline.save(renewed)
        report.rewrite(renewed)
    elif any(verdict.failed for verdict in _verdicts(session.config)):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    run, verdicts = config.stash[_RUN], _verdicts(config)
    terminalreporter.section("benchmarks")
    for line in report.table(verdicts):
        terminalreporter.write_line(line)
    before = f", {report.seconds(run.baseline.calibration)} in the baseline" if run.baseline.benchmarks else ""
    terminalreporter.write_line(f"one raw P-256 verification: {report.seconds(run.calibration)}{before}")
    others = max((figure.others for figure in run.figures.values()), default=0.0)
    if run.renewing and any(map(is_disturbed, run.figures.values())):
        terminalreporter.write_line(
            f"other processes took up to {others:.2f} cores: the baseline is not written", red=True
        )
    elif any(verdict.outcome is Outcome.DISTURBED for verdict in verdicts):
        terminalreporter.write_line(
            f"other processes took up to {others:.2f} cores: repeat when the machine is quiet", yellow=True
        )
    if failed := [verdict.name for verdict in verdicts if verdict.failed]:
        terminalreporter.write_line(f"failed: {'; '.join(failed)}", red=True)
