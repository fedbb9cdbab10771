"""Settings of the running server: whether they are valid, and those that leave it less safe."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping

from sigil.config.settings import Config
from sigil.console.findings.result import Result, failed, ok, still_open
from sigil.preflight.secrets import check_sources
from sigil.preflight.settings import check_settings
from sigil.serving.files.secret_files import check_secret_file

_ALWAYS = frozenset({"setting", "SIGIL_DEVICE_APP"})
# An installation that runs may be one for development.
_NOT_HERE = frozenset({"SIGIL_MODE", "RELAY_PUBLIC_URL", "SIGIL_PUBLIC_URL"})


def check(config: Config, faults: list[str]) -> Iterator[Result]:
    yield from (
        failed("settings", line, "correct it, then restart the server; or run this with the settings of the server")
        for line in faults
    )
    # A "setting" is a warning, such as of a misspelt variable.
    opening = [
        found
        for found in check_settings(config)
        if found.name in _ALWAYS or (found.state == "failed" and found.name not in _NOT_HERE)
    ]
    if config.state_dir_insecure:
        opening.append(failed("SIGIL_STATE_DIR_INSECURE", "true: sessions may be on a disk", "unset it, and use tmpfs"))
    yield from (still_open("settings", _shown(found), found.next_step) for found in opening)
    if not faults:
        yield ok("settings", f"valid; mode {config.mode}, port {config.port} ({config.scheme})")


def _shown(found: Result) -> str:
    return found.text if found.name == "setting" else f"{found.name}: {found.text}"


def check_permissions(config: Config, environ: Mapping[str, str], user: int) -> Iterator[Result]:
    """Of files with secrets and of the state directory, as `user`. Secrets in variables belong to preflight."""
    name, problems = "permissions", []
    try:
        status = config.state_dir.lstat()
    except PermissionError:
        status = None
        problems.append(
            failed(
                name, f"user {user} has no access to {config.state_dir}",
                "run it as the server's user: in a container `docker-compose exec sigil sigil doctor`",
            )
        )  # fmt: skip
    except OSError:
        # The server has not started yet, or the finding `server` says that it does not run.
        status = None
    if status is not None and status.st_uid != user:
        problems.append(
            failed(
                name, f"this runs as user {user}, and the server as user {status.st_uid}",
                f"run it as user {status.st_uid}: in a container `docker-compose exec sigil sigil doctor`",
            )
        )  # fmt: skip
    elif status is not None and status.st_mode & 0o077:
        mode = stat.S_IMODE(status.st_mode)
        problems.append(failed(name, f"{config.state_dir} is open to other users ({mode:04o})", "chmod it to 0700"))
    sources = [found for found in check_sources(environ) if found.name.endswith(("_PATH", "_FILE"))]
    # Without one, the server makes it, or `certificate` reports that it is missing.
    if not config.http_only and os.access(config.tls_key, os.F_OK):
        sources.append(check_secret_file("TLS_KEY_PATH", config.tls_key))
    for found in sources:
        if found.state != "ok":
            problems.append(Result(name, found.state, f"{found.name}: {found.text}", found.next_step))
    yield from problems
    if not problems:
        yield ok(name, "no other user can read the secrets and the state directory")
