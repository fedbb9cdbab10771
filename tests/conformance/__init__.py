"""The wire protocol, checked from outside against a running server; nothing here imports the server's code."""
