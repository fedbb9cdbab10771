"""Composition root: the master process, the applications of a worker, and its background loops."""
