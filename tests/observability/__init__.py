"""What an operator sees: traces, and the collector that tests receive them with."""
