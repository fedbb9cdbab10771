"""Settings of the running relay: whether they are valid, those that leave it less safe, and files with secrets."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping

from relay.config import Config, secret_files
from sigil.console.findings.result import Result, failed, ok, still_open
from sigil.serving.files.secret_files import check_secret_file


def check(config: Config, faults: list[str]) -> Iterator[Result]:
    name = "settings"
    yield from (
        failed(name, line, "correct it, then restart the relay; or run this with the settings of the relay")
        for line in faults
    )
    # Such as a misspelt variable.
    for line in config.warnings:
        yield still_open(name, line, "unset it" if "docs/" in line else "see docs/relay.md, Settings")
    if config.trust_on_first_use and not config.trusted_servers:
        yield still_open(
            name, "RELAY_TRUST_ON_FIRST_USE: the first server that connects is trusted",
            "list server_ids in RELAY_TRUSTED_SERVERS",
        )  # fmt: skip
    if config.push_console:
        yield still_open(name, "RELAY_PUSH_CONSOLE prints pushes instead of sending them", "unset it in production")
    if config.metrics_open:
        yield still_open(name, "METRICS_TOKEN is off: every client can read /metrics", "set METRICS_TOKEN_FILE")
    if config.public_url is None:
        yield still_open(name, "RELAY_PUBLIC_URL is not set", "set it to the relay's https address for devices")
    if not config.encryption_keys:
        yield still_open(name, "TOKEN_ENCRYPTION_KEY is not set: push tokens are stored as they are", "set it")
    if not faults:
        yield ok(name, f"valid; port {config.port}, {config.workers} {'worker' if config.workers == 1 else 'workers'}")


def check_permissions(config: Config, environ: Mapping[str, str]) -> Iterator[Result]:
    name, problems = "permissions", []
    for variable, path in secret_files(environ).items():
        found = check_secret_file(variable, path)
        if found.state != "ok":
            problems.append(Result(name, found.state, f"{variable}: {found.text}", found.next_step))
    problems += _data_directory(config) if config.database_url is None else []
    yield from problems
    if not problems:
        yield ok(name, "no other user can read the secrets and the data of the relay")


def _data_directory(config: Config) -> Iterator[Result]:
    try:
        status = config.data_dir.lstat()
    except PermissionError:
        yield failed(
            "permissions", f"user {os.geteuid()} has no access to {config.data_dir}", "run it as the relay's user: "
            "in a container `docker-compose exec relay sigil-relay doctor`",
        )  # fmt: skip
        return
    except OSError:
        # The relay has not started yet, or `registry` reports it.
        return
    user, mode = os.geteuid(), stat.S_IMODE(status.st_mode)
    if status.st_uid != user:
        yield failed(
            "permissions", f"this runs as user {user}, and {config.data_dir} belongs to user {status.st_uid}",
            f"run it as user {status.st_uid}: in a container `docker-compose exec relay sigil-relay doctor`",
        )  # fmt: skip
    elif mode & 0o022:
        yield failed("permissions", f"other users can change {config.data_dir} ({mode:04o})", "chmod it to 0700")
