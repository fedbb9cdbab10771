"""What a process inherits, and sets right: signals, secrets of the environment."""
