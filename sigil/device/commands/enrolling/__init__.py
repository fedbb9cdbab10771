"""`sigil device enrol` and `attest`."""
