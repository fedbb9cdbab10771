"""Certificates of every kind: the walk of a chain, the roots that it may end in, and the list of revoked ones."""
