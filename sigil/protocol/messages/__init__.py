"""The messages of the wire: requests, responses, pushes and webhook events (docs/protocol.md)."""
