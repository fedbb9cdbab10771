"""Approval requests: M of N devices decide (`mpa` on the wire)."""
