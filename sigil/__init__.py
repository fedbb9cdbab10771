"""Sigil: a self-hosted push-authentication server that keeps no database."""

__version__ = "0.1.0"
