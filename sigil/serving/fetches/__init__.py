"""What the master fetches from public addresses, in processes without secrets."""
