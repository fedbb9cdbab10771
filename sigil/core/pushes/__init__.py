"""Rules of the push outbox: entries, claims, completions."""
