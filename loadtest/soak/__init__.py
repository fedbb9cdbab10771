"""A whole installation under load while faults come at once, and the account of every decision (loadtest/README.md)."""
