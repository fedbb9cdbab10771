"""Implementations of the session-store port that `sigil.core.decision` declares."""
