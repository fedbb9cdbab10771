"""The wire protocol: pure and synchronous, without clock, environment or I/O (docs/protocol.md)."""
