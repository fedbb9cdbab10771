"""Checks of a server's settings, files and host before it serves in production. `sigil preflight` prints them."""
