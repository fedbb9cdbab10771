"""Pushes: entries of the outbox, sent to the relay in signed batches."""
