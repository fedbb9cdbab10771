"""Android's status list on this host: its file, the master's fetch of it, and what a worker reads of it."""
