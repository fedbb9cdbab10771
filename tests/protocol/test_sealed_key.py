"""The relay's token encryption key in a backup: only the mnemonic that sealed it opens it."""

from __future__ import annotations

import base64
import os
import subprocess
import sys

import pytest

from sigil.protocol.identity import DerivedSecrets, backup_key, generate_mnemonic
from sigil.protocol.sealed_key import NONCE_LENGTH, CannotOpen, open_sealed, seal

SERVER, OTHER = "a" * 64, "b" * 64
SECRET = b"f" * 64


def test_a_sealed_key_opens_with_the_same_mnemonic_and_shows_nothing() -> None:
    key = backup_key(generate_mnemonic())
    line = seal(key, SERVER, os.urandom(NONCE_LENGTH), SECRET)
    assert line.isascii()
    assert SECRET not in base64.b64decode(line.split()[2])
    assert open_sealed(key, SERVER, f"{line}\n") == SECRET


def test_the_backup_key_is_none_of_the_secrets_of_a_running_server() -> None:
    words = generate_mnemonic()
    derived = DerivedSecrets.from_mnemonic(words)
    assert backup_key(words) not in {derived.es256, derived.es256k, derived.ed25519, derived.api_key}
    assert backup_key(words) == backup_key(words.upper())


@pytest.mark.parametrize(
    ("server", "change", "reason"),
    [
        (OTHER, lambda line: line, f"belongs to server_id {SERVER}, and this server is {OTHER}"),
        (OTHER, lambda line: line.replace(SERVER, OTHER), "damaged"),
        (SERVER, lambda line: line[:-8] + "AAAAAAA=", "damaged"),
        (SERVER, lambda line: line[:-9], "damaged"),
        (SERVER, lambda line: "plain", "not a sealed key"),
        (SERVER, lambda line: "", "not a sealed key"),
    ],
)
def test_another_server_and_a_damaged_line_are_named(server: str, change: object, reason: str) -> None:
    key = backup_key(generate_mnemonic())
    line = change(seal(key, SERVER, os.urandom(NONCE_LENGTH), SECRET))  # type: ignore[operator]
    with pytest.raises(CannotOpen, match=reason):
        open_sealed(key, server, line)


def test_the_commands_seal_and_open_through_pipes() -> None:
    environ = {"SIGIL_MNEMONIC": generate_mnemonic(), "PATH": os.environ["PATH"]}

    def command(verb: str, data: bytes, **change: str) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [sys.executable, "-m", "sigil", "backup-key", verb],
            input=data, env=environ | change, capture_output=True, check=False,
        )  # fmt: skip

    sealed = command("seal", SECRET + b"\n")
    assert sealed.returncode == 0, sealed.stderr
    assert command("open", sealed.stdout).stdout == SECRET
    wrong = command("open", sealed.stdout, SIGIL_MNEMONIC=generate_mnemonic())
    assert wrong.returncode == 1
    assert wrong.stdout == b""
    assert b"start it with the mnemonic of that server" in wrong.stderr
    assert command("seal", b"").returncode == 1
