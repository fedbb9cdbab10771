"""Faults of the table, group "database": made for real on one installation, one after the other, in any order."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults.check import check
from tests.faults.faults import FAULTS, Fault
from tests.faults.stack import Stack, running_stack
from tests.support.postgres import PostgresServer

pytest_plugins = ["tests.support.postgres_fixtures"]


@pytest.fixture(scope="module")
def stack(postgres: PostgresServer) -> Iterator[Stack]:
    with running_stack(postgres) as running:
        yield running


@pytest.mark.parametrize("fault", FAULTS["database"], ids=lambda fault: fault.name)
def test_log_alert_and_doctor_name_the_fault(stack: Stack, fault: Fault) -> None:
    check(stack, fault)
