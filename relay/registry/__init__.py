"""The registry: its model, its rules, its ports, and an implementation on each of two databases."""
