"""Each fault of docs/runbook.md, made for real: the log, an alert and the doctor name it."""
