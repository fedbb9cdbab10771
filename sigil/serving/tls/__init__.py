"""The certificate and key of a server."""
