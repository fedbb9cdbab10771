"""The names of a pair's files in a directory: ours, and those of certbot.

certbot's `live` directory has fullchain.pem and privkey.pem, and in addition cert.pem, which lacks the chain. So the
name of the key decides: without key.pem, the pair is certbot's.
"""

from __future__ import annotations

import os
from pathlib import Path


def pair_in(directory: Path) -> tuple[Path, Path]:
    """Certificate and key. A dangling symlink counts as a file: it must not be replaced."""
    cert, key = directory / "cert.pem", directory / "key.pem"
    full, private = _of_certbot(directory)
    if not os.path.lexists(key) and (os.path.lexists(private) or os.path.lexists(full)):
        return full, private
    return cert, key


def warnings_about(cert: Path, key: Path) -> list[str]:
    """About another file of the directory that was probably meant."""
    # Not Path.exists, which raises in a directory that this user cannot enter; the certificate has an error of its own.
    exists = os.path.exists
    full, private = _of_certbot(cert.parent)
    if cert.name == "cert.pem" and exists(full) and exists(cert.parent / "chain.pem"):
        return [f"TLS_CERT_PATH: {cert} of certbot lacks the chain, and clients may reject it: use {full}"]
    if key.name == "key.pem" and exists(private):
        return [f"TLS: {key} is served, and {private} is not: remove {cert} and {key} to serve {full} and {private}"]
    return []


def _of_certbot(directory: Path) -> tuple[Path, Path]:
    return directory / "fullchain.pem", directory / "privkey.pem"
