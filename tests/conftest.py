"""Fixtures and settings of all tests."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.support.ordering import long_files_first

# The same examples in every run, so that failures come from the change under test. `--hypothesis-profile=search` tries
# new examples, and keeps the failing ones for the next run. No time limits: a slow test on a busy machine is not wrong.
_patient = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow, HealthCheck.filter_too_much]}
settings.register_profile("repeat", derandomize=True, database=None, **_patient)
settings.register_profile("search", derandomize=False, **_patient)
settings.load_profile("repeat")

# A shell starts what runs in its background with SIGINT ignored, and so would every program that a test interrupts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# They need a Docker engine, which `make test-docker` starts.
collect_ignore = [] if "SIGIL_TEST_ENGINE" in os.environ else ["containers"]


@pytest.fixture(scope="module", autouse=True)
def _garbage_of_this_module() -> Iterator[None]:
    """What a module leaves open, such as a socket, is an error of its last test, not of one that runs much later."""
    yield
    gc.collect()


@pytest.fixture(scope="session")
def shared_vectors() -> Path:
    """The folder of public test vectors that SIGIL_TEST_VECTORS names. Without it, their tests are skipped."""
    path_text = os.environ.get("SIGIL_TEST_VECTORS")
    if not path_text:
        pytest.skip("SIGIL_TEST_VECTORS does not name the folder of the shared test vectors")
    folder = Path(path_text)
    if not folder.is_dir():
        pytest.skip(f"SIGIL_TEST_VECTORS names {folder}, which is not a folder")
    return folder


def _may_be_skipped(report: pytest.TestReport | pytest.CollectReport) -> bool:
    """In CI a test may be skipped only if the public vectors are missing: they are not part of the repository."""
    return "SIGIL_TEST_VECTORS does not name" in str(report.longrepr) or hasattr(report, "wasxfail")


def _fail_if_skipped(report: pytest.TestReport | pytest.CollectReport) -> None:
    if os.environ.get("CI") == "true" and report.skipped and not _may_be_skipped(report):
        report.outcome = "failed"
        report.longrepr = f"skipped, which CI does not permit: {report.longrepr}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    _fail_if_skipped(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    _fail_if_skipped(report)
    return report


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    long_files_first(items)


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Stores the exit status for `.ci/test`: only tests that ran and failed may get a second run."""
    if (cache := getattr(session.config, "cache", None)) is not None and not hasattr(session.config, "workerinput"):
        cache.set("sigil/exit_status", int(exitstatus))
