"""`sigil attest …`: why a statement was rejected, and Android's status list on a host that fetches nothing itself."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sigil.cli.errors import cli_errors
from sigil.console.json_lines import json_line
from sigil.console.style import Style, styled
from sigil.protocol.encoding.display_text import printable

if TYPE_CHECKING:
    from sigil.attestation.explain import Explanation

_STYLES: dict[str, Style] = {"ok": "good", "open": "notice", "failed": "bad"}
_MAX_FILE = 256 * 1024
_FETCH_SECONDS = 60


@click.group()
def attest() -> None:
    """Explain statements of devices, and update Android's status list."""


@attest.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Machine-readable: one JSON object.")
def explain(file: Path, as_json: bool) -> None:
    """Print each check of a statement with its result. FILE is an attestation as JSON, the body of POST /device/attest,
    or the certificates of a chain in PEM form. Run it with the server's settings. Exit code 1 when a check failed.
    """
    with cli_errors:
        from sigil.attestation.explain import Unreadable, read
        from sigil.serving.bounded import files
        from sigil.serving.files.errors import file_error

        try:
            subject = read(files.read(file, _MAX_FILE).data)
        except OSError as error:
            cli_errors.die(file_error("read", file, error))
        except Unreadable as error:
            cli_errors.die(f"{file}: {printable(str(error))}")
        found = _explained(subject)
        click.echo(json_line(_members(found)) if as_json else _text(found))
        sys.exit(1 if found.failed else 0)


def _explained(subject: object) -> Explanation:
    from dataclasses import replace

    from sigil.android_status import list_file
    from sigil.app.identity import identity_of
    from sigil.attestation.certificates.roots import anchors
    from sigil.attestation.explain import Subject, explain
    from sigil.attestation.verify import verifiers
    from sigil.config.settings import load_with_faults
    from sigil.serving.settings import ConfigError
    from sigil.serving.startup_error import StartupError

    assert isinstance(subject, Subject)  # noqa: S101 - for the type
    config, faults = load_with_faults(os.environ)
    # A statement can be examined on a host that has no mnemonic.
    if wrong := [fault for fault in faults if not fault.startswith("SIGIL_MNEMONIC")]:
        raise ConfigError(wrong)
    try:
        identity = identity_of(config)
    except StartupError:
        identity = None
    path = config.android_status.path
    status = (list_file.usable(path) if path else None) or list_file.of_release()
    return explain(
        subject,
        policy=replace(config.attestation, revoked_devices=config.revoked_devices),
        anchors=anchors(config.attestation.test_roots),
        revoked=status.revoked,
        old_list=status.is_old(time.time()),
        now=time.time(),
        verifiers=verifiers(),
        identity=identity,
    )


def _text(found: Explanation) -> str:
    lines = []
    for check in found.checks:
        state = styled(f"{check.state:<6}", _STYLES[check.state], sys.stdout)
        reason = f"; reason {check.reason}" if check.state == "failed" and check.reason else ""
        # The statement's author wrote names in it: no line of the report may be theirs.
        text = f": {printable(check.text)}" if check.text else ""
        lines.append(f"{state}  {check.name}{text}{reason}")
    if found.failed:
        reason = f"{found.failed.reason} ({found.failed.name})" if found.failed.reason else found.failed.name
        lines.append(f"Rejected: {reason}; docs/attestation.md")
    elif found.attested is None:
        lines.append("Not decided: the open check is needed")
    else:
        kind, level, binding, app, _ = found.attested
        lines.append(f"Accepted: {kind}, {level}, {binding}{f', {app}' if app else ''}")
    return "\n".join(lines)


def _members(found: Explanation) -> dict[str, object]:
    attested, failed = found.attested, found.failed
    return {
        "accepted": attested is not None and failed is None,
        "reason": (failed.reason or failed.name) if failed else None,
        "kind": attested.kind if attested else None,
        "level": attested.level if attested else None,
        "binding": attested.binding if attested else None,
        "app": attested.app if attested else None,
        "checks": [check._asdict() for check in found.checks],
    }


@attest.command("update-status")
@click.option("--from", "source", metavar="FILE|URL", help="A file, or an https address; default: Google's address.")
@click.option("--force", is_flag=True, help="Also a list that lost more than half of the entries of the present one.")
def update_status(source: str | None, force: bool) -> None:
    """Check Android's status list and write it to SIGIL_ANDROID_STATUS_PATH; the running server reads it within a
    second. For hosts on which SIGIL_ANDROID_STATUS_FETCH is off. Run it each day.
    """
    with cli_errors:
        from sigil.android_status import list_file
        from sigil.attestation.certificates.status_list import UnusableStatusList, parse
        from sigil.config.settings import load_status_source
        from sigil.serving.files.errors import file_error

        settings = load_status_source(os.environ)
        path = settings.path
        if path is None:
            cli_errors.die("set SIGIL_ANDROID_STATUS_PATH to the file of the list, here and for the server")
        content, known_at = _content(source, settings.url)
        before = list_file.usable(path)
        try:
            if force:
                new = parse(content, known_at)
                list_file.replace(path, content, known_at)
            else:
                new = list_file.write(path, content, known_at)
        except UnusableStatusList as error:
            hint = "; --force writes it all the same" if "entries, and" in str(error) else ""
            cli_errors.die(f"the status list is not used: {error}{hint}")
        except OSError as error:
            cli_errors.die(file_error("write", path, error))
        click.echo(f"{path}: {new.entries} entries" + (f", {before.entries} before" if before else ""))
        if new.is_old(time.time()):
            cli_errors.note("the list is older than 30 days: the time of FILE counts as that of the list")


def _content(source: str | None, url: str | None) -> tuple[bytes, float]:
    """The list, and when it was the present one."""
    from sigil.config.attestation import STATUS_URL

    if source is not None and "://" not in source:
        return _of_file(Path(source))
    return _of_address(source or url or STATUS_URL), time.time()


def _of_file(path: Path) -> tuple[bytes, float]:
    from sigil.attestation.certificates.status_list import MAX_BYTES
    from sigil.serving.bounded import files
    from sigil.serving.files.errors import file_error

    try:
        return files.read(path, MAX_BYTES).data, min(time.time(), files.status(path).st_mtime)
    except OSError as error:
        cli_errors.die(file_error("read", path, error))


def _of_address(url: str) -> bytes:
    from sigil.attestation.certificates.status_list import MAX_BYTES
    from sigil.serving.fetches.process import FetchFailed, FetchProcess
    from sigil.serving.settings import https_url

    try:
        fetch = FetchProcess([https_url(url)], max_bytes=MAX_BYTES, seconds=_FETCH_SECONDS, now=time.monotonic())
    except ValueError as error:
        cli_errors.die(f"--from: {error}")
    try:
        while not fetch.ended(time.monotonic()):
            time.sleep(0.02)
        return fetch.result().bodies[0]
    except FetchFailed as error:
        cli_errors.die(f"cannot fetch {url}: {error}; or pass a file with --from")
    finally:
        fetch.close()
