"""Findings about a running relay and what it depends on. `sigil-relay doctor` prints them."""
