"""The server_id beside the TLS pair: a later init mode on the same volume accepts no other identity."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
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
        with self._cannot("read"):
            try:
                content = self.path.read_bytes()
            except FileNotFoundError:
                return None
        if not _SERVER_ID.match(content):
            raise MarkerUnusable(f"{self.path} holds no server_id")
        return content.decode("ascii").strip()

    def leave(self, server_id: str) -> None:
        """Write it unless there is one; MarkerUnusable. Several workers may do so at once: they write the same."""
        with self._cannot("write"):
            if not self.path.exists():
                self._write(server_id)

    def follow(self, server_id: str) -> str | None:
        """Name this identity in place of another, and give that other: no marker is made. MarkerUnusable."""
        former = self.read()
        if former in {None, server_id}:
            return None
        with self._cannot("write"):
            self._write(server_id)
        return former

    def _write(self, server_id: str) -> None:
        new = self.path.with_name(f"{MARKER_FILE}.{os.getpid()}")
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Whole or not at all: half a marker would stop the next start.
        new.write_text(f"{server_id}\n", encoding="ascii")
        new.replace(self.path)

    def remove(self) -> None:
        """MarkerUnusable."""
        with self._cannot("remove"):
            self.path.unlink(missing_ok=True)

    @contextmanager
    def _cannot(self, what: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise MarkerUnusable(f"cannot {what} {self.path}: {error.strerror}") from error
