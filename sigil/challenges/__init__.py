"""Challenges: one device approves or rejects one action."""
