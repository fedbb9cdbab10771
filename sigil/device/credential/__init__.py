"""The device_credential: obtained from the server with an attestation, sent with approvals, renewed in time
(docs/protocol.md, 5.6)."""
