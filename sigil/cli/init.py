"""`sigil init`: the steps of the browser's wizard in a terminal, for a server that is started with the words."""

from __future__ import annotations

import secrets
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import click

from sigil.protocol.api_key import ID_LENGTH, issue
from sigil.protocol.identity import (
    WORDS,
    DerivedSecrets,
    InvalidMnemonic,
    ServerIdentity,
    WrongChecksum,
    generate_mnemonic,
    normalise,
)
from sigil.protocol.mnemonic_typos import likely_positions

_CONFIRMED = 3
_COLUMNS = 4
_LONGEST = 4096
# What is shown on a terminal's second screen stays neither on the first nor in what can be scrolled back to.
_SECOND_SCREEN, _FIRST_SCREEN = "\x1b[?1049h\x1b[H", "\x1b[?1049l"


@dataclass(frozen=True)
class Wanted:
    """What the command line said. `restore` is None where it left that open."""

    restore: bool | None
    mnemonic_out: Path | None
    api_key_out: Path | None
    yes: bool


class Wizard:
    """`give(text, path)` writes a new file of mode 0600, or prints without a path."""

    def __init__(self, wanted: Wanted, give: Callable[[str, Path | None], None]) -> None:
        self._wanted = wanted
        self._give = give
        self._asks = not wanted.yes

    def run(self) -> None:
        restore = self._choose()
        words = self._restore() if restore else self._create()
        derived = DerivedSecrets.from_mnemonic(words)
        self._show(ServerIdentity.from_secrets(derived), restore)
        if self._wanted.mnemonic_out:
            self._give(words, self._wanted.mnemonic_out)
        elif not self._asks and not restore:
            click.echo("The 24 words:")
            self._give(words, None)
        del words
        self._make_key(derived.api_key)
        self._tell_what_is_next()

    def _choose(self) -> bool:
        if self._wanted.restore is not None:
            return self._wanted.restore
        click.echo("A server's whole identity comes from 24 words. Create new ones, or restore a server from its own?")
        return bool(click.prompt("create or restore", type=click.Choice(["create", "restore"])) == "restore")

    # Words

    def _create(self) -> str:
        words = generate_mnemonic()
        if not self._asks:
            return words
        click.echo(
            "\nThe next screen shows 24 words. Whoever has them is this server, and nothing else can bring it back.\n"
            "Write them down on paper, in their order, where nobody looks over your shoulder."
        )
        while True:
            click.prompt("Press Enter to see them", default="", show_default=False, prompt_suffix="")
            with _second_screen():
                click.echo(_grid(words.split()))
                click.prompt("Press Enter when they are on paper", default="", show_default=False, prompt_suffix="")
            if self._confirmed(words.split()):
                return words
            click.echo("That is another word than the one shown. Look at them once more.")

    def _confirmed(self, words: list[str]) -> bool:
        for place in sorted(secrets.SystemRandom().sample(range(WORDS), _CONFIRMED)):
            typed = click.prompt(f"Word {place + 1}", hide_input=True)
            if normalise(typed) != words[place]:
                return False
        return True

    def _restore(self) -> str:
        if not self._asks:
            return self._good(sys.stdin.read(_LONGEST))
        while True:
            with _second_screen():
                typed = click.prompt("The 24 words, in their order, on one line\n", prompt_suffix="")
            try:
                return self._good(typed)
            except InvalidMnemonic as error:
                click.echo(f"{error}.")

    def _good(self, typed: str) -> str:
        """The words in the one spelling that everything else uses; InvalidMnemonic says where to look."""
        try:
            DerivedSecrets.from_mnemonic(typed)
        except WrongChecksum as error:
            likely = " or ".join(map(str, likely_positions(typed)))
            raise InvalidMnemonic(f"{error}; look at word {likely} first" if likely else str(error)) from None
        return normalise(typed)

    # What they give

    def _show(self, identity: ServerIdentity, restore: bool) -> None:
        click.echo(f"\nserver_id   {identity.server_id}")
        click.echo(f"public key  {identity.server_public_keys['ES256']}")
        click.echo(f"pictogram   {' '.join(identity.pictogram)}  {identity.pictogram_speakable}\n")
        click.echo("People who enrol a device compare the pictogram at a glance, and the server_id in full.")
        question = "Is this the identity that you want to restore?" if restore else "Go on with this identity?"
        if self._asks and not click.confirm(question, default=True):
            raise click.Abort

    def _make_key(self, api_key_secret: bytes) -> None:
        if self._asks and not click.confirm("\nMake an API key for a backend? It is shown once.", default=True):
            return
        # Test keys: a server issues live ones only when it requires attestation.
        key = issue(api_key_secret, "sgk_test_", secrets.token_bytes(ID_LENGTH))
        if self._wanted.api_key_out is None:
            click.echo("The API key:")
        self._give(key, self._wanted.api_key_out)

    def _tell_what_is_next(self) -> None:
        path = self._wanted.mnemonic_out
        if path is None:
            click.echo("\nPut the words into a file that only the server's user can read (mode 0600), then:")
        click.echo(f"\n  export SIGIL_MNEMONIC_PATH={path.absolute() if path else '/var/lib/sigil/mnemonic.txt'}")
        click.echo("  sigil check-config && sigil serve\n")
        click.echo("More keys: sigil keygen. The identity again: sigil identity.")


def _grid(words: list[str]) -> str:
    cells = [f"{place:>2} {word:<12}" for place, word in enumerate(words, 1)]
    rows = len(cells) // _COLUMNS
    return "\n".join("".join(cells[row::rows]).rstrip() for row in range(rows)) + "\n"


@contextmanager
def _second_screen() -> Iterator[None]:
    click.echo(_SECOND_SCREEN, nl=False)
    try:
        yield
    finally:
        click.echo(_FIRST_SCREEN, nl=False)
