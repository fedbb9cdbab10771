"""Apple App Attest: an attested app vouches for the device's key (docs/protocol.md, 5.6)."""
