"""Every command of both programs where its surroundings are poor: encodings, streams, users, terminals."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import click
import pytest

from relay.cli.commands import relay
from sigil.cli.commands import sigil
from tests.support.live import DEADLINE
from tests.support.other_user import enterable, needs_root, open_directory
from tests.support.ports import free_port

WORDS = "zoo " * 23 + "vote"
PROGRAMS: dict[str, click.Group] = {"sigil": sigil, "sigil-relay": relay}
# What a command needs to get past its arguments.
ARGUMENTS = {
    "sigil ask": ["--device", "x", "text"],
    "sigil completion install": ["bash"],
    "sigil completion show": ["bash"],
    "sigil-relay completion install": ["bash"],
    "sigil-relay completion show": ["bash"],
    "sigil device init": ["--server", "https://127.0.0.1:9"],
    "sigil device forget": ["https://127.0.0.1:9", "--yes"],
    "sigil device approve": ["x"],
    "sigil device reject": ["x"],
    "sigil health": ["--url", "http://127.0.0.1:9"],
    "sigil init": ["--yes", "--create"],
    "sigil webhook listen": ["--port", "0", "--count", "1"],
    "sigil webhook replay": ["--all"],
    "sigil webhook send-test": ["--url", "http://127.0.0.1:9"],
    "sigil-relay devices remove": ["00" * 32],
    "sigil-relay devices show": ["00" * 32],
    "sigil-relay health": ["--url", "http://127.0.0.1:9"],
    "sigil-relay servers remove": ["00" * 32],
    "sigil-relay servers trust": ["00" * 32],
}
# They run until they are stopped.
SERVERS = {"sigil serve", "sigil-relay serve", "sigil webhook listen"}
# Nothing is there that they could print.
SILENT = {"sigil device servers", "sigil-relay devices count", "sigil-relay servers list"}


def commands() -> Iterator[str]:
    def walk(command: click.Command, path: str) -> Iterator[str]:
        if not isinstance(command, click.Group):
            yield path
            return
        context = click.Context(command)
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None
            yield from walk(below, f"{path} {name}")

    for program, group in PROGRAMS.items():
        yield from walk(group, program)


EVERY = sorted(commands())
every_command = pytest.mark.parametrize("command", EVERY)


@dataclass
class Ended:
    code: int
    out: bytes
    err: bytes = field(repr=False)

    def assert_one_line_at_most(self, command: str) -> None:
        text = self.err.decode("utf-8", "replace")
        assert "Traceback" not in text, text
        assert "Exception ignored" not in text, text
        errors = [line for line in text.splitlines() if not line.startswith(("Wrote ", "warning: ", "Write the 24"))]
        # It lists all wrong settings.
        assert len(errors) <= 1 or command == "sigil check-config", text
        if self.code and not self.out:
            assert errors, "a failure says why"
        if self.code:
            assert all(line.startswith(f"{command.split(maxsplit=1)[0]}: ") for line in errors), text


def run(
    command: str,
    folder: Path,
    *,
    arguments: list[str] | None = None,
    redirect: str = "</dev/null",
    run_as: int | None = None,
    **variables: str,
) -> Ended:
    program, *rest = command.split()
    module = {"sigil": "sigil", "sigil-relay": "relay"}[program]
    given = ARGUMENTS.get(command, []) if arguments is None else arguments
    line = [sys.executable, "-m", module, *rest, *given]
    if run_as is not None:
        line = [shutil.which("setpriv") or "", f"--reuid={run_as}", f"--regid={run_as}", "--clear-groups", *line]
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "SIGIL_MNEMONIC": WORDS,
        "SIGIL_PORT": str(free_port()),
        "RELAY_PORT": str(free_port()),
        "SIGIL_STATE_DIR": str(folder / "state"),
        "SIGIL_STATE_DIR_INSECURE": "true",
        "TLS_CERT_PATH": str(folder / "tls" / "cert.pem"),
        "TLS_KEY_PATH": str(folder / "tls" / "key.pem"),
        "RELAY_DATA_DIR": str(folder / "relay"),
        "WEBHOOK_SECRET": "whsec_" + "A" * 44,
        "PYTHONDONTWRITEBYTECODE": "1",
        **variables,
    }
    done = subprocess.run(
        enterable(["sh", "-c", f'"$@" {redirect}', "sh", *line]),
        env={name: value for name, value in environment.items() if value},
        capture_output=True,
        timeout=DEADLINE,
        check=False,
        cwd=folder,
    )
    return Ended(done.returncode, done.stdout, done.stderr)


@cache
def german(folder: str) -> dict[str, str]:
    """A locale in ISO-8859-1, made here where the sources of locales are; else only Python's own variable."""
    made = (
        subprocess.run(
            ["localedef", "-i", "de_DE", "-f", "ISO-8859-1", f"{folder}/de_DE.ISO-8859-1"],
            capture_output=True,
            check=False,
        )
        if shutil.which("localedef")
        else None
    )
    if made is None or made.returncode:
        return {"PYTHONIOENCODING": "iso-8859-1"}
    return {"LOCPATH": folder, "LC_ALL": "de_DE.ISO-8859-1"}


@pytest.mark.parametrize("command", sorted(set(EVERY) - SERVERS))
@pytest.mark.parametrize("surroundings", ["German", "ASCII"])
def test_output_that_an_encoding_lacks_is_replaced(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, command: str, surroundings: str
) -> None:
    variables = {
        "German": lambda: german(str(tmp_path_factory.getbasetemp())),
        "ASCII": lambda: {"PYTHONIOENCODING": "ascii"},
    }[surroundings]()
    ended = run(command, tmp_path, **variables)
    ended.assert_one_line_at_most(command)
    if surroundings == "ASCII":
        assert (ended.out + ended.err).isascii()
    if command in {"sigil identity", "sigil check-config", "sigil init"}:
        assert ended.code == 0
        assert b"apple broccoli key sailboat carrot" in ended.out or command == "sigil init"


@pytest.mark.parametrize("locale", ["C", "POSIX"])
def test_the_smallest_locale_is_enough(tmp_path: Path, locale: str) -> None:
    ended = run("sigil identity", tmp_path, LC_ALL=locale)
    assert (ended.code, b"apple broccoli key sailboat carrot" in ended.out) == (0, True)


def test_json_keeps_every_character_in_ascii(tmp_path: Path) -> None:
    plain, narrow = (
        run("sigil identity", tmp_path, arguments=["--json"], PYTHONIOENCODING=name) for name in ("utf-8", "ascii")
    )
    assert plain.out == narrow.out
    assert rb"\ud83c\udf4e" in plain.out


@every_command
def test_help_on_a_full_disk_is_one_line(tmp_path: Path, command: str) -> None:
    full = run(command, tmp_path, arguments=["--help"], redirect=">/dev/full")
    program = command.split(maxsplit=1)[0]
    assert (full.code, full.err.decode()) == (
        1,
        f"{program}: cannot write to standard output: No space left on device\n",
    )


@pytest.mark.parametrize("command", sorted(set(EVERY) - SERVERS))
def test_results_on_a_full_disk_are_one_line(tmp_path: Path, command: str) -> None:
    full = run(command, tmp_path, redirect=">/dev/full </dev/null")
    assert full.code in {1, 2, 4} or command in SILENT
    full.assert_one_line_at_most(command)


@every_command
def test_a_reader_that_left_is_no_error_line(tmp_path: Path, command: str) -> None:
    """As `| head -1` does; the exit code is that of a program that SIGPIPE ended."""
    reader, writer = os.pipe()
    os.close(reader)
    program, *rest = command.split()
    module = {"sigil": "sigil", "sigil-relay": "relay"}[program]
    try:
        done = subprocess.run(
            [sys.executable, "-m", module, *rest, "--help"],
            stdout=writer,
            stderr=subprocess.PIPE,
            timeout=DEADLINE,
            check=False,
        )
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.parametrize("command", sorted(set(EVERY) - SERVERS))
@pytest.mark.parametrize("closed", ["0 1", "0 1 2"])
def test_closed_descriptors_are_no_traceback(tmp_path: Path, command: str, closed: str) -> None:
    redirect = " ".join(f"{number}<&-" for number in closed.split())
    ended = run(command, tmp_path, redirect=redirect)
    if "2" in closed:
        assert ended.err == b""
    else:
        ended.assert_one_line_at_most(command)
    if "1" in closed:
        assert ended.code in {1, 2, 4} or command in SILENT, "a result that cannot be shown is a failure"


def test_a_secret_that_cannot_be_shown_is_a_failure(tmp_path: Path) -> None:
    for redirect in ("1>&-", ">/dev/full"):
        lost = run("sigil mnemonic", tmp_path, redirect=redirect)
        assert lost.code == 1
        assert b"cannot write to standard output: " in lost.err
    sealed = run("sigil backup-key seal", tmp_path, redirect="<<.\nsecret\n.")
    (tmp_path / "sealed").write_bytes(sealed.out)
    assert run("sigil backup-key open", tmp_path, redirect="<sealed").out == b"secret"
    assert run("sigil backup-key open", tmp_path, redirect="<sealed >/dev/full").code == 1


@needs_root
@pytest.mark.parametrize("command", sorted(set(EVERY) - SERVERS))
def test_a_user_without_a_home_or_an_entry_gets_one_line(command: str) -> None:
    with open_directory() as folder:
        ended = run(command, folder, run_as=12345, HOME="")
        ended.assert_one_line_at_most(command)
        if command.startswith("sigil device "):
            assert b"set HOME, or pass --home DIR" in ended.err
            assert ended.code == 2


@pytest.mark.parametrize("command", ["sigil init", "sigil device watch", "sigil device listen"])
def test_prompts_without_a_terminal_are_one_line(tmp_path: Path, command: str) -> None:
    ended = run(command, tmp_path, arguments=[])
    assert (ended.code != 0, ended.err.count(b"\n")) == (True, 1)


def test_wrong_usage_is_one_line_with_the_way_to_the_help(tmp_path: Path) -> None:
    wrong = run("sigil device init", tmp_path, arguments=[])
    assert (wrong.code, wrong.err.decode()) == (
        2,
        "sigil: Missing option '--server'. Try 'sigil device init --help'.\n",
    )
    other = run("sigil-relay devices show", tmp_path, arguments=[])
    assert other.err.decode().startswith("sigil-relay: Missing argument 'FINGERPRINT'.")
