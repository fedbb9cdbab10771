"""The relay's token encryption key in a backup: only the mnemonic that sealed it opens it."""

from __future__ import annotations

import base64
import os
import subprocess
import sys

import pytest

from sigil.protocol.identity import DerivedSecrets, backup_key, generate_mnemonic
from sigil.protocol.sealed_key import MAX_SECRET, NONCE_LENGTH, CannotOpen, open_sealed, seal

from .vectors import cases

SERVER, OTHER = "a" * 64, "b" * 64
SECRET = b"f" * 64


def test_a_sealed_key_opens_with_the_same_mnemonic_and_shows_nothing() -> None:
    key = backup_key(generate_mnemonic())
    line = seal(key, SERVER, os.urandom(NONCE_LENGTH), SECRET)
    assert line.isascii()
    assert SECRET not in base64.b64decode(line.split()[2])
    assert open_sealed(key, SERVER, f"{line}\n") == SECRET


def test_the_form_of_a_line_never_changes() -> None:
    """An operator may need a backup of years ago. The bytes were also computed by RFC 8439 with plain integers."""
    case = cases("mnemonics.json")[0]
    server, nonce = case["expect"]["server_id"], bytes(range(NONCE_LENGTH))
    line = (
        "sigil-sealed-key-v1 00ae1e231c6d77214ea442e384f05c696b7da9fb040e6252bd1941b5728c6dcd "
        "AAECAwQFBgcICQoL83W+dAC/lITjVOty8mbyBHIROJv1No0bfMbz6bHa0+1FbHZPrBTnRu9HoaJVf1EpmkgexCW75evTwXuSKPaFEtW2XfapQVzp"
        "UVqkQARP9oo="
    )
    assert seal(backup_key(case["words"]), server, nonce, SECRET) == line
    assert open_sealed(backup_key(case["words"]), server, line) == SECRET


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
        pytest.param(SERVER, lambda line: line.replace(SERVER, "\x1b[31mred"), "not a sealed key", id="escape"),
    ],
)
def test_another_server_and_a_damaged_line_are_named(server: str, change: object, reason: str) -> None:
    key = backup_key(generate_mnemonic())
    line = change(seal(key, SERVER, os.urandom(NONCE_LENGTH), SECRET))  # type: ignore[operator]
    with pytest.raises(CannotOpen, match=reason):
        open_sealed(key, server, line)


ENVIRON = {"SIGIL_MNEMONIC": cases("mnemonics.json")[0]["words"], "PATH": os.environ["PATH"]}


def command(verb: str, data: bytes, **change: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "sigil", "backup-key", verb],
        input=data, env=ENVIRON | change, capture_output=True, check=False,
    )  # fmt: skip


def test_the_commands_seal_and_open_through_pipes() -> None:
    sealed = command("seal", SECRET + b"\n")
    assert sealed.returncode == 0, sealed.stderr
    assert command("open", sealed.stdout).stdout == SECRET
    wrong = command("open", sealed.stdout, SIGIL_MNEMONIC=generate_mnemonic())
    assert wrong.returncode == 1
    assert wrong.stdout == b""
    assert b"start it with the mnemonic of that server" in wrong.stderr
    assert command("seal", b"").returncode == 1


def test_the_longest_key_comes_back_whole_and_a_longer_one_is_not_cut_off() -> None:
    longest = os.urandom(MAX_SECRET // 2).hex().encode()
    assert command("open", command("seal", longest).stdout).stdout == longest
    longer = command("seal", longest + b"0")
    assert (longer.returncode, longer.stdout) == (1, b"")
    assert b"larger than 64 KiB" in longer.stderr


def test_a_line_that_is_no_text_is_reported() -> None:
    found = command("open", b"\xff\xfe\x00")
    assert (found.returncode, found.stderr) == (1, b"sigil: this is not a sealed key of a backup\n")
