"""Implementations of the session-store port that `sigil.core.session_store` declares."""
