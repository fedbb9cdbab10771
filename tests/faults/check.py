"""What each fault of the table has to show."""

from __future__ import annotations

from tests.faults.faults import Fault
from tests.faults.stack import Stack


def check(stack: Stack, fault: Fault) -> None:
    """No alert before; log lines, alerts and doctors name the fault; the alerts end after the mend."""
    stack.wait_healthy()
    before = {service: len(stack.log_of(service)) for service in ("sigil", "relay")}
    with fault.make(stack):
        for line in fault.lines:
            stack.wait_for_line(line.service, line.event, before[line.service], line.matches)
        for name in fault.alerts:
            alert = stack.wait_for_alert(name)
            assert alert["annotations"]["runbook"] == f"docs/runbook.md#{name.lower()}"
        for finding in fault.findings:
            stack.wait_for_finding(finding.command, finding.name, finding.part)
    if fault.resolves:
        for name in fault.alerts:
            stack.wait_resolved(name)
