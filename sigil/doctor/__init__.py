"""Findings about a running server and what it depends on. `sigil doctor` prints them."""
