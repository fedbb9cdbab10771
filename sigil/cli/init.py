"""`sigil init`: the steps of the browser's wizard in a terminal, for a server that is started with its mnemonic."""

from __future__ import annotations

import os
import secrets
import sys
from dataclasses import dataclass
from pathlib import Path

import click

from sigil.cli.errors import cli_errors
from sigil.config.settings import load_key_prefix
from sigil.console.secret_screen import fits, inside_multiplexer, secret_screen
from sigil.protocol.api_key import ID_LENGTH, issue_api_key
from sigil.protocol.encoding.plain_text import NotPlainText, text_of
from sigil.protocol.identity import (
    WORD_COUNT,
    DerivedSecrets,
    InvalidMnemonic,
    ServerIdentity,
    generate_mnemonic,
    normalise,
)
from sigil.serving.files.secret_output import NotWritten, write

_WORDS_TO_CONFIRM = 3
_COLUMNS = 4
_GRID_ROWS, _GRID_COLUMNS = WORD_COUNT // _COLUMNS + 3, 16 * _COLUMNS
_MAX_INPUT = 4096
# What a command writes in a container is lost with it, and its server runs already.
_IN_A_CONTAINER = (
    "In a container instead: write the words into a file on the host (mode 0600, `sudo chown 10001 FILE`), mount it, "
    "set SIGIL_MNEMONIC_PATH and SIGIL_MODE=operational, and create the container again. With the Compose files of "
    "Sigil: set SIGIL_MNEMONIC_FILE in .env, then `make prod`."
)


@dataclass(frozen=True)
class InitOptions:
    """The options of the command line. `restore` is None when neither --create nor --restore was given."""

    restore: bool | None
    mnemonic_out: Path | None
    api_key_out: Path | None
    yes: bool


class TerminalWizard:
    """A person's answers, or with `yes` the options alone."""

    def __init__(self, options: InitOptions) -> None:
        self._options = options
        self._interactive = not options.yes
        self._file: Path | None = None

    def run(self) -> None:
        restore = self._choose_restore()
        words = self._restore() if restore else self._create()
        derived = DerivedSecrets.from_mnemonic(words)
        # New words at once: what follows may fail or be interrupted.
        if not restore and self._options.mnemonic_out:
            self._file = self._keep(words, self._options.mnemonic_out)
        try:
            self._show(ServerIdentity.from_secrets(derived), restore)
        except click.Abort as refused:
            # Ctrl-C and the end of the input decide nothing.
            if self._file and refused.__context__ is None:
                self._file.unlink(missing_ok=True)
                click.echo(f"{self._file} is removed.", err=True)
            raise
        if restore and self._options.mnemonic_out:
            self._file = self._keep(words, self._options.mnemonic_out)
        elif not restore and self._file is None and not self._interactive:
            click.echo("The 24 words:")
            click.echo(words)
        del words
        self._issue_key(derived.api_key)
        self._show_next_steps()

    def _choose_restore(self) -> bool:
        if self._options.restore is not None:
            return self._options.restore
        click.echo(
            "A server's whole identity is derived from 24 words. Create a new identity, or restore one from its words?"
        )
        return bool(click.prompt("create or restore", type=click.Choice(["create", "restore"])) == "restore")

    # Mnemonic

    def _keep(self, secret: str, path: Path) -> Path:
        """The file with the secret. At a terminal until it is written: a full disk must not end the setup, whose words
        were confirmed. Without one, an error leaves no file of this setup, so that it may be repeated.
        """
        while True:
            try:
                write(secret, path)
            except NotWritten as error:
                if not self._interactive:
                    if self._file:
                        self._file.unlink(missing_ok=True)
                    cli_errors.die(str(error))
                click.echo(f"{error}.")
                other = click.prompt("Press Enter to try again, or type another file", default="", show_default=False)
                path = Path(other) if other else path
            else:
                return path

    def _create(self) -> str:
        words = generate_mnemonic()
        if not self._interactive:
            return words
        click.echo(
            "\nThe next screen shows 24 words. A person who has them controls this server. Nothing else restores it.\n"
            "Write them down on paper, in their order, where no other person can see your screen."
        )
        if multiplexer := inside_multiplexer():
            click.echo(
                f"This terminal runs in {multiplexer}, which keeps them if it is resized meanwhile or logs its output. "
                "To see none: sigil init --yes --create --mnemonic-out FILE."
            )
        while True:
            click.prompt("Press Enter to see them", default="", show_default=False, prompt_suffix="")
            if not fits(_GRID_ROWS, _GRID_COLUMNS):
                click.echo(
                    "The terminal would scroll, and keep them in its scrollback: enlarge it to "
                    f"{_GRID_COLUMNS} columns and {_GRID_ROWS} rows first."
                )
                continue
            with secret_screen():
                click.echo(_grid(words.split()))
                click.prompt("Press Enter when they are on paper", default="", show_default=False, prompt_suffix="")
            if self._confirmed(words.split()):
                return words
            click.echo("This is not the word that was shown. Look at them once more.")

    def _confirmed(self, words: list[str]) -> bool:
        click.echo("Type three of them from the paper; nothing appears while you type.")
        for position in sorted(secrets.SystemRandom().sample(range(WORD_COUNT), _WORDS_TO_CONFIRM)):
            typed = click.prompt(f"Word {position + 1}", hide_input=True)
            if normalise(typed) != words[position]:
                return False
        return True

    def _restore(self) -> str:
        if not self._interactive:
            try:
                return self._validated(text_of(sys.stdin.buffer.read(_MAX_INPUT)))
            except NotPlainText as error:
                raise InvalidMnemonic(f"standard input {error}") from error
        while True:
            with secret_screen():
                typed = click.prompt("The 24 words, in their order, on one line\n", prompt_suffix="")
            try:
                return self._validated(typed)
            except InvalidMnemonic as error:
                click.echo(f"{error}.")

    def _validated(self, typed: str) -> str:
        """The mnemonic in its normal form; InvalidMnemonic says what is wrong with it."""
        DerivedSecrets.from_mnemonic(typed)
        return normalise(typed)

    # Identity and API key

    def _show(self, identity: ServerIdentity, restore: bool) -> None:
        click.echo(f"\nserver_id   {identity.server_id}")
        click.echo(f"public key  {identity.server_public_keys['ES256']}")
        click.echo(f"pictogram   {' '.join(identity.pictogram)}  {identity.pictogram_speakable}\n")
        click.echo("People who enrol a device compare the pictogram at a glance, and the server_id in full.")
        question = "Is this the identity that you want to restore?" if restore else "Go on with this identity?"
        if self._interactive and not click.confirm(question, default=True):
            raise click.Abort

    def _issue_key(self, api_key_secret: bytes) -> None:
        if self._interactive and not click.confirm("\nMake an API key for a backend? It is shown once.", default=True):
            return
        key = issue_api_key(api_key_secret, load_key_prefix(os.environ), secrets.token_bytes(ID_LENGTH))
        if self._options.api_key_out is None:
            click.echo(f"The API key:\n{key}")
        else:
            self._keep(key, self._options.api_key_out)

    def _show_next_steps(self) -> None:
        path = self._file
        if path is None:
            click.echo("\nWrite the words into a file that only the server's user can read (mode 0600), then:")
        click.echo(f"\n  export SIGIL_MNEMONIC_PATH={path.absolute() if path else '/var/lib/sigil/mnemonic.txt'}")
        click.echo("  sigil check-config && sigil serve\n")
        click.echo(_IN_A_CONTAINER)
        click.echo("For more keys: sigil keygen. To show the identity again: sigil identity.")


def _grid(words: list[str]) -> str:
    cells = [f"{number:>2} {word:<12}" for number, word in enumerate(words, 1)]
    rows = len(cells) // _COLUMNS
    return "\n".join("".join(cells[row::rows]).rstrip() for row in range(rows)) + "\n"
