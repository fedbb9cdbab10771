"""Detects workers that hang: memory shared by the processes of a service, and the rules that read it."""
