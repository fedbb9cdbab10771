"""Processes of any service: master, supervisor, workers, listeners."""
