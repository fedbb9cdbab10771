"""What a process inherits, and sets right: descriptors, signals, secrets of the environment."""
