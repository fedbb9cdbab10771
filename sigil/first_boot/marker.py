"""The marker file with the server_id, next to the TLS pair. A later init mode on that volume accepts no other."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sigil.console.new_file import replace_file
from sigil.serving.bounded import files
from sigil.serving.files.errors import file_error

MARKER_FILE = "server_id"
_SERVER_ID = re.compile(rb"[0-9a-f]{64}\n?\Z")


class MarkerUnusable(Exception):
    """The message is one line: the file and the reason."""


class Marker:
    """Neither a secret nor a proof: it keeps a person from setting up another identity by mistake."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / MARKER_FILE

    def read(self) -> str | None:
        """The server_id, or None without a marker. Raises MarkerUnusable."""
        with self._os_errors("read"):
            try:
                content = files.read(self.path).data
            except FileNotFoundError:
                return None
        if not _SERVER_ID.match(content):
            raise MarkerUnusable(f"{self.path} contains no server_id")
        return content.decode("ascii").strip()

    def write_if_absent(self, server_id: str) -> None:
        """Write the marker unless there is one. Raises MarkerUnusable.

        Several workers may do so at once: they write the same server_id.
        """
        with self._os_errors("write"):
            if not self.path.exists():
                self._write(server_id)

    def replace(self, server_id: str) -> str | None:
        """Replace a marker of another identity and return that identity. Creates no marker. Raises MarkerUnusable."""
        former = self.read()
        if former in {None, server_id}:
            return None
        with self._os_errors("write"):
            self._write(server_id)
        return former

    def _write(self, server_id: str) -> None:
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Half a marker would stop the next start.
        replace_file(self.path, f"{server_id}\n".encode("ascii"))

    def remove(self) -> None:
        """Raises MarkerUnusable."""
        with self._os_errors("remove"):
            self.path.unlink(missing_ok=True)

    @contextmanager
    def _os_errors(self, operation: str) -> Iterator[None]:
        """Turn an OSError of `operation` into MarkerUnusable."""
        try:
            yield
        except OSError as error:
            raise MarkerUnusable(file_error(operation, error.filename or self.path, error)) from error
