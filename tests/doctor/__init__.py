"""Findings of `sigil doctor` and `sigil-relay doctor` about real servers, each in a good and in a bad state."""
