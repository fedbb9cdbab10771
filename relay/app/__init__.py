"""Composition root: the master process, the wiring of a worker, and its background loops."""
