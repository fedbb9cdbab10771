"""Enrolments: their rows, the rules that change them, and the port of their attestation (docs/protocol.md, 5.5)."""
