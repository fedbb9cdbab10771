"""HTTP of a device: connections to a server, origins and TLS trust."""
