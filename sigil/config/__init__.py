"""Settings of the server, read from the environment and from files."""
