"""The push relay: fingerprints of devices to push tokens, and pushes to devices."""

from sigil import __version__

__all__ = ["__version__"]
