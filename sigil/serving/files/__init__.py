"""Files that cannot be read or written: how an operator mends it."""
