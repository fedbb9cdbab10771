"""Test roots, attestations under them, and hostile ones: python -m deploy.attestation --help"""
