"""Probes of services over the network, for commands that examine them; each is bounded in time and size."""
