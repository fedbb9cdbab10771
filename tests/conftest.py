"""What all tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# The same examples in every run, so that a change is judged by what it changes. New ones, and what was found kept for
# the next run: `pytest --hypothesis-profile=search`. No time limits: what is slow on a busy machine is not wrong.
_patient = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow, HealthCheck.filter_too_much]}
settings.register_profile("repeat", derandomize=True, database=None, **_patient)
settings.register_profile("search", derandomize=False, **_patient)
settings.load_profile("repeat")


@pytest.fixture(scope="session")
def shared_vectors() -> Path:
    """The folder of public test vectors that SIGIL_TEST_VECTORS names; without one, its tests are skipped."""
    named = os.environ.get("SIGIL_TEST_VECTORS")
    if not named:
        pytest.skip("SIGIL_TEST_VECTORS does not name the folder of the shared test vectors")
    folder = Path(named)
    if not folder.is_dir():
        told = f"SIGIL_TEST_VECTORS names {folder}, which is not a folder"
        if os.environ.get("CI") == "true":
            pytest.fail(told)
        pytest.skip(told)
    return folder


def pytest_sessionfinish(session: pytest.Session) -> None:
    """In CI nothing may be skipped, except for want of the public vectors, which are not part of the repository."""
    if os.environ.get("CI") != "true" or session.exitstatus != 0:
        return
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    skipped = reporter.stats.get("skipped", []) if reporter else []
    if any("SIGIL_TEST_VECTORS does not name" not in str(report.longrepr) for report in skipped):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
