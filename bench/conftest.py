"""Runs benchmarks as tests, compares them with the baseline at the end, and prints one table."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench import baseline, picture, report
from bench.comparison import Outcome, Verdict, compare, is_disturbed
from bench.measuring import Measure, Run
from bench.tolerances import TOLERANCES

HERE = Path(__file__).parent
_RUN: pytest.StashKey[Run] = pytest.StashKey()
_RENEW = "--renew-baseline"
_PICTURE = HERE.parent / ".benchmarks" / "benchmarks.svg"


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


@pytest.hookimpl(tryfirst=True)
def pytest_report_teststatus(report: pytest.TestReport) -> tuple[str, str, str] | None:
    """No dot for a benchmark that passed: it has a line of its own."""
    return ("passed", "", "") if report.passed and report.when == "call" else None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> Iterator[None]:
    """One line for each benchmark as it ends, since all of them take a minute."""
    run = item.config.stash[_RUN]
    before = len(run.figures)
    try:
        return (yield)
    finally:
        reporter = item.config.pluginmanager.get_plugin("terminalreporter")
        position = item.session.items.index(item) + 1
        for name, figure in list(run.figures.items())[before:]:
            reporter.write_line(f"[{position:>2} of {len(item.session.items)}] {report.progress(name, figure)}")


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
    if run.rounds:
        picture.draw(verdicts, run.rounds, _PICTURE)
        terminalreporter.write_line(f"picture: {_PICTURE}")
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
