"""Enrolment of a device: its link, its offer, and the code that two people compare (docs/protocol.md, 5.5)."""
