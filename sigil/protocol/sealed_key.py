"""Seals the relay's token encryption key under the mnemonic of a server, for backups.

A dump of the relay's database is useless without that key, and with it in plain text the seal of the push tokens would
protect nothing. ChaCha20-Poly1305 (RFC 8439) with a random nonce: a server seals a few keys in its life.
"""

from __future__ import annotations

import base64
import re

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from sigil.protocol.encoding.text import encode_base64

NONCE_LENGTH = 12
MAX_SECRET = 64 * 1024
"""Bytes: as much as the relay reads from the file of its key."""
_FORM = "sigil-sealed-key-v1"
_SERVER_ID = re.compile(r"[0-9a-f]{64}\Z")


class CannotOpen(ValueError):
    """The message gives the reason in one line, without a secret."""


def seal(backup_key: bytes, server_id: str, nonce: bytes, secret: bytes) -> str:
    """One line of ASCII text: the form, the server's id, and nonce with ciphertext in base64."""
    sealed = ChaCha20Poly1305(backup_key).encrypt(nonce, secret, _context(server_id))
    return f"{_FORM} {server_id} {encode_base64(nonce + sealed)}"


def open_sealed(backup_key: bytes, server_id: str, line: str) -> bytes:
    """The secret of a line of `seal`; CannotOpen."""
    parts = line.split()
    # The id appears in a message: a file of another origin must not write to the terminal.
    if len(parts) != 3 or parts[0] != _FORM or not _SERVER_ID.match(parts[1]):
        raise CannotOpen("this is not a sealed key of a backup")
    if parts[1] != server_id:
        raise CannotOpen(
            f"the backup belongs to server_id {parts[1]}, and this server is {server_id}: start it with the mnemonic "
            "of that server"
        )
    try:
        data = base64.b64decode(parts[2], validate=True)
        return ChaCha20Poly1305(backup_key).decrypt(data[:NONCE_LENGTH], data[NONCE_LENGTH:], _context(server_id))
    except (InvalidTag, ValueError) as error:
        raise CannotOpen("the sealed key is damaged: use another copy of the backup") from error


def _context(server_id: str) -> bytes:
    return f"{_FORM} {server_id}".encode()
