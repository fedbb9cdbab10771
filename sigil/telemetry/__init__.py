"""Event log and metrics of the server, and the observers that services call."""
