"""The verdict of a run: errors need a fault that explains them, and a failure names its seed."""

from __future__ import annotations

from pathlib import Path

import msgspec

from loadtest.soak.api import Failure, Record
from loadtest.soak.faults import GRACE_SECONDS, FaultLog, Happened
from loadtest.soak.ledger import Ledger, Violation
from loadtest.soak.report import Report, lines, make_report, write


def log_with_one_fault() -> FaultLog:
    log = FaultLog(lambda text: None)
    log.happened.append(Happened("worker_kill", "server", 100.0, 0.0, 102.0))
    return log


def report_of(record: Record, others: list[Violation] | None = None) -> Report:
    return make_report(
        7, 90, decisions=(Ledger(), record, log_with_one_fault()), others=others or [], growth={}, flood_responses={},
        log_events={},
    )  # fmt: skip


def test_an_error_during_a_fault_or_its_grace_passes() -> None:
    record = Record(failures=[Failure(101, 101.5, "ReadError"), Failure(102, 103 + GRACE_SECONDS, "ReadTimeout")])
    report = report_of(record)
    assert report.passed
    assert lines(report)[-1].startswith("passed")
    assert report.failures == {"ReadError": 1, "ReadTimeout": 1}


def test_an_error_without_a_fault_fails_the_run() -> None:
    record = Record(failures=[Failure(90, 99, "ReadError"), Failure(300, 301, "503 OVERLOADED")])
    report = report_of(record)
    assert not report.passed
    assert {(each.kind, each.subject) for each in report.violations} == {
        ("error without a fault", "ReadError"),
        ("error without a fault", "503 OVERLOADED"),
    }


def test_a_failed_run_names_its_seed_and_what_was_violated(tmp_path: Path) -> None:
    report = report_of(Record(), [Violation("descriptors kept", "sigil worker", "40 before, 300 after")])
    text = "\n".join(lines(report))
    assert "FAILED: 1 violations; repeat the faults with --seed 7" in text
    assert "descriptors kept: sigil worker: 40 before, 300 after" in text
    write(report, tmp_path / "deep" / "report.json")
    decoded = msgspec.json.decode((tmp_path / "deep" / "report.json").read_bytes(), type=Report)
    assert decoded == report
    assert decoded.timeline[0]["kind"] == "worker_kill"


def test_the_longest_time_without_success_begins_with_the_run() -> None:
    record = Record()
    record.success("info", 5)
    record.begin(10)
    for at in (11.0, 19.0, 20.0):
        record.success("create", at)
    assert record.longest_silence == 8
