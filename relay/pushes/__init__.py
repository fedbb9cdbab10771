"""Pushes: admission, claims, and attempts by transport."""
