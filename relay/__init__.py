"""The push relay: maps fingerprints of devices to push tokens, and delivers pushes to devices."""

from sigil import __version__

__all__ = ["__version__"]
