"""The server_id beside the TLS pair: a later init mode on the same volume accepts no other identity."""

from __future__ import annotations

import os
import re
from pathlib import Path

MARKER_FILE = "server_id"
_SERVER_ID = re.compile(rb"[0-9a-f]{64}\n?\Z")


class MarkerUnusable(Exception):
    """One line: which file, and why."""


class Marker:
    """Not a secret, and no proof: it keeps people from setting up another server by mistake."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / MARKER_FILE

    def read(self) -> str | None:
        """The server_id, None without a marker; MarkerUnusable."""
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise MarkerUnusable(f"cannot read {self.path}: {error.strerror}") from error
        if not _SERVER_ID.match(content):
            raise MarkerUnusable(f"{self.path} holds no server_id")
        return content.decode("ascii").strip()

    def leave(self, server_id: str) -> None:
        """Write it unless there is one; MarkerUnusable. Several workers may do so at once: they write the same."""
        new = self.path.with_name(f"{MARKER_FILE}.{os.getpid()}")
        try:
            if self.path.exists():
                return
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            # Whole or not at all: half a marker would stop the next start.
            new.write_text(f"{server_id}\n", encoding="ascii")
            new.replace(self.path)
        except OSError as error:
            raise MarkerUnusable(f"cannot write {self.path}: {error.strerror}") from error

    def remove(self) -> None:
        """MarkerUnusable."""
        try:
            self.path.unlink(missing_ok=True)
        except OSError as error:
            raise MarkerUnusable(f"cannot remove {self.path}: {error.strerror}") from error
