"""Faults of the table, group "pushes": made for real on one installation, one after the other, in any order."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults.check import check, check_control
from tests.faults.faults import FAULTS, Fault
from tests.faults.stack import Stack, running_stack


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    with running_stack() as running:
        yield running


def test_nothing_is_reported_while_all_is_well(stack: Stack) -> None:
    check_control(stack, "pushes", "relay", "server", "start")


@pytest.mark.parametrize("fault", FAULTS["pushes"], ids=lambda fault: fault.name)
def test_log_alert_and_doctor_name_the_fault(stack: Stack, fault: Fault) -> None:
    check(stack, fault)
