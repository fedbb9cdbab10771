"""Web Push (docs/relay.md): the push services of browsers (RFC 8030), encryption (RFC 8291) and VAPID (RFC 8292)."""
