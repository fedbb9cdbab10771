"""Warns once at a start with another SIGIL_PUBLIC_URL: the keys of web devices belong to their address.

The former address is in a file of the state directory, so a restart of the host forgets it.
"""

from __future__ import annotations

from pathlib import Path

from sigil.config.settings import Config
from sigil.protocol.origin import NotAnOrigin, server_origin, web_origin
from sigil.serving import logs
from sigil.serving.bounded import files

ADDRESS_FILE = "web_origin"


def warn_of_change(config: Config) -> None:
    """In the master, which holds the state directory. A file that cannot be used is only logged."""
    path, now = config.state_dir / ADDRESS_FILE, web_origin(config.public_url)
    try:
        former = _read(path)
        if former not in {None, now}:
            logs.warn(
                "public_url_changed",
                former=former,
                public_url=now,
                message="the keys of web devices belong to the former address and are rejected now: people enrol their "
                "browsers again, unless you set SIGIL_PUBLIC_URL back",
            )
        if now is None:
            path.unlink(missing_ok=True)
        elif former != now:
            path.write_text(f"{now}\n", encoding="ascii")
    except OSError as error:
        logs.warn("marker_not_written", reason=f"{path}: {error.strerror}")


def _read(path: Path) -> str | None:
    try:
        return server_origin(files.read(path).data.decode("ascii").strip())
    except (FileNotFoundError, UnicodeDecodeError, NotAnOrigin):
        return None
