"""Faults of the table, group "start": made for real on one installation, one after the other, in any order."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults.check import check
from tests.faults.faults import FAULTS, Fault
from tests.faults.stack import Stack, running_stack


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    with running_stack() as running:
        yield running


@pytest.mark.parametrize("fault", FAULTS["start"], ids=lambda fault: fault.name)
def test_log_alert_and_doctor_name_the_fault(stack: Stack, fault: Fault) -> None:
    check(stack, fault)
