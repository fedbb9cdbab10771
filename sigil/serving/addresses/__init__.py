"""Addresses to listen on, and which peers of a connection are proxies or gateways."""
