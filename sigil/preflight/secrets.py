"""Secrets: where they come from, who can read their files, and whether they are random."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from sigil.config.secret_sources import SecretSource, secret_sources
from sigil.config.settings import Config
from sigil.console.findings.result import Result, failed, ok, still_open
from sigil.preflight.secret_strength import is_published, weakness
from sigil.protocol.api_key import has_computed_form
from sigil.protocol.identity import DerivedSecrets, InvalidMnemonic, ServerIdentity
from sigil.serving.files.secret_files import check_secret_file

_RANDOM = "`openssl rand -hex 32` makes one"


def check_sources(environ: Mapping[str, str]) -> Iterator[Result]:
    """Needs no valid settings: a file that this user cannot read is the reason of most invalid ones."""
    for source in secret_sources(environ):
        if source.path is not None:
            yield check_secret_file(source.file_variable, source.path)
        elif source.name != "WEBHOOK_URL":
            yield _in_variable(source)


def _in_variable(source: SecretSource) -> Result:
    text = f"{source.name} is an environment variable, which `docker inspect` shows"
    step = f"put it into a file, and set {source.file_variable} instead"
    return (failed if source.name == "SIGIL_MNEMONIC" else still_open)(source.name, text, step)


def check_mnemonic(config: Config) -> Iterator[Result]:
    name = "mnemonic"
    if config.mnemonic is None:
        yield failed(name, "no mnemonic is set", "set SIGIL_MNEMONIC_PATH to a file; `sigil mnemonic --out` makes one")
        return
    words = config.mnemonic.reveal()
    try:
        identity = ServerIdentity.from_secrets(DerivedSecrets.from_mnemonic(words))
    except InvalidMnemonic as error:
        yield failed(name, str(error), "compare the file with the mnemonic on paper, word by word")
        return
    if is_published(words):
        yield failed(
            name, "the mnemonic is a published example: everyone can derive its keys", "`sigil mnemonic --out FILE` "
            "makes one"
        )  # fmt: skip
        return
    yield ok(name, f"valid; server_id {identity.server_id}, pictogram {identity.pictogram_speakable}")
    yield still_open(
        "mnemonic_storage", "this check cannot see where the file comes from, nor whether a copy exists",
        "have a secret manager write it, and store two copies offline: nothing else restores the server",
    )  # fmt: skip


def check_shared_secrets(config: Config) -> Iterator[Result]:
    preset = [key.reveal() for key in config.preset_keys if not has_computed_form(key.reveal())]
    weak = [f"key number {number} {reason}" for number, key in enumerate(preset, 1) if (reason := weakness(key))]
    if weak:
        yield failed("API_KEY", "; ".join(weak), _RANDOM)
    elif preset:
        yield ok("API_KEY", f"{len(preset)} pre-set")
    # The server can see neither the age of a key nor its copies.
    yield still_open(
        "api_keys", "this check cannot see how old the API keys are, nor where backends store them",
        "rotate them by plan (`sigil keygen`, then SIGIL_REVOKED_API_KEYS_FILE), and store them in a secret manager",
    )  # fmt: skip
    if config.webhook is None:
        yield ok("WEBHOOK_SECRET", "webhooks are off")
        return
    reasons = [reason for secret in config.webhook.secrets if (reason := weakness(secret.reveal()))]
    if reasons:
        yield failed("WEBHOOK_SECRET", reasons[0], _RANDOM)
    else:
        yield ok("WEBHOOK_SECRET", "32 bytes or more")
