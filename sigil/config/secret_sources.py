"""Where each secret of the server comes from: a variable or a file. For checks of the files themselves."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from sigil.config.settings import SECRETS
from sigil.protocol.encoding import plain_text


class SecretSource(NamedTuple):
    """`name` is the variable of the secret, `file_variable` that of its file; `path` is None for a plain variable."""

    name: str
    file_variable: str
    path: Path | None


def file_variable(name: str) -> str:
    return "SIGIL_MNEMONIC_PATH" if name == "SIGIL_MNEMONIC" else f"{name}_FILE"


def secret_sources(environ: Mapping[str, str]) -> list[SecretSource]:
    """Those that are set."""
    found = []
    for name in SECRETS:
        if path := plain_text.cleaned(environ.get(file_variable(name), "")):
            found.append(SecretSource(name, file_variable(name), Path(path)))
        elif environ.get(name, "").strip():
            found.append(SecretSource(name, file_variable(name), None))
    return found
