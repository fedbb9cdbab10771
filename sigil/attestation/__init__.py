"""Attestation: the proof that a device's key is in hardware, and the credential that the server issues for it."""
