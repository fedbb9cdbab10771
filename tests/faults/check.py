"""What each fault of the table has to show."""

from __future__ import annotations

from tests.faults.faults import FAULTS, Fault
from tests.faults.stack import Service, Stack
from tests.guide.test_runbook import EXAMPLES


def check(stack: Stack, fault: Fault) -> None:
    """No alert before; log lines, alerts and doctors name the fault; the alerts end after the mend."""
    stack.wait_healthy()
    before: dict[Service, int] = {"sigil": len(stack.log_of("sigil")), "relay": len(stack.log_of("relay"))}
    with fault.make(stack):
        if not fault.lines_at_mend:
            _check_lines(stack, fault, before)
        for name in fault.alerts:
            alert = stack.wait_for_alert(name)
            assert alert["annotations"]["runbook"] == f"docs/runbook.md#{name.lower()}"
        for finding in fault.findings:
            stack.wait_for_finding(finding.command, finding.name, finding.part)
    if fault.lines_at_mend:
        _check_lines(stack, fault, before)
    for name in fault.alerts:
        stack.wait_resolved(name)


def check_control(stack: Stack, *groups: str) -> None:
    """While all is well, no alert fires for as long as any needs, and no doctor has a finding of these groups."""
    stack.wait_healthy()
    stack.stays_healthy()
    for finding in {finding for group in groups for fault in FAULTS[group] for finding in fault.findings}:
        text = stack.findings(*finding.command).get(finding.name)
        assert text is None or finding.part not in text, f"{finding}: {text}"


def _check_lines(stack: Stack, fault: Fault, before: dict[Service, int]) -> None:
    for line in fault.lines:
        found = stack.wait_for_line(line.service, line.event, before[line.service], line.matches)
        members = found.keys() - {"timestamp"}
        examples = [one for one in EXAMPLES if (one["service"], one["event"]) == (line.service, line.event)]
        assert members in [example.keys() for example in examples], f"docs/runbook.md has no such line: {found}"
