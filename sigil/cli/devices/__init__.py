"""Commands that wait for a person and their device."""
