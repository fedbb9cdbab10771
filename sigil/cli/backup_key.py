"""`sigil backup-key …`: for backups of the relay's database, whose push tokens are sealed under a key."""

from __future__ import annotations

import os
import sys

import click

from sigil.cli.errors import cli_errors


@click.group("backup-key")
def backup_key() -> None:
    """Seal the relay's token encryption key under the mnemonic of the settings, and open it again."""


@backup_key.command()
def seal() -> None:
    """Read the key from standard input, and print one line that only the same mnemonic opens."""
    with cli_errors:
        from sigil.protocol.sealed_key import MAX_SECRET, NONCE_LENGTH, seal

        given = sys.stdin.buffer.read(MAX_SECRET + 1)
        if len(given) > MAX_SECRET:
            cli_errors.die("standard input is larger than 64 KiB: pass the relay's TOKEN_ENCRYPTION_KEY alone")
        secret = given.strip()
        if not secret:
            cli_errors.die("standard input is empty: pass the relay's TOKEN_ENCRYPTION_KEY")
        key, server_id = _from_mnemonic()
        click.echo(seal(key, server_id, os.urandom(NONCE_LENGTH), secret))


@backup_key.command("open")
def open_() -> None:
    """Read the line of `backup-key seal` from standard input, and print the key. Redirect it: it is a secret."""
    with cli_errors:
        from sigil.protocol.sealed_key import MAX_SECRET, CannotOpen, open_sealed

        key, server_id = _from_mnemonic()
        try:
            line = sys.stdin.buffer.read(2 * MAX_SECRET).decode("ascii", "replace")
            sys.stdout.buffer.write(open_sealed(key, server_id, line))
        except CannotOpen as error:
            cli_errors.die(str(error))


def _from_mnemonic() -> tuple[bytes, str]:
    """The backup key and the server_id."""
    from sigil.config.settings import load_mnemonic
    from sigil.protocol.identity import DerivedSecrets, InvalidMnemonic, ServerIdentity, backup_key

    words = load_mnemonic(os.environ).reveal()
    try:
        return backup_key(words), ServerIdentity.from_secrets(DerivedSecrets.from_mnemonic(words)).server_id
    except InvalidMnemonic as error:
        cli_errors.die(f"SIGIL_MNEMONIC or SIGIL_MNEMONIC_PATH: {error}")
