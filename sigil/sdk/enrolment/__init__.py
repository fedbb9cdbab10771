"""Enrolment of devices: calls without I/O, their results, and the QR code (docs/enrolling.md)."""
