"""The wire protocol, tested from outside against a running server. Nothing here imports the server's code."""
