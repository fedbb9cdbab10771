"""Offline verification of the votes on an approval request."""
