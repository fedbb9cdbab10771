"""The rules of Sigil as functions of values: no clock, no randomness, no I/O."""
