"""The commitment of the wizard as a file in the state directory: mode 0600, published once, atomically, by link(2)."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from sigil.first_boot.commitment import AlreadyCommitted, Commitment, Session, VaultOutdated, VaultUnusable
from sigil.serving.files.errors import reason_of

VAULT_FILE = "identity"
_NEW = f"{VAULT_FILE}.new."


class FileVault:
    """`Vault` in the state directory `path`, which the master has verified to be the server's own."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path / VAULT_FILE

    def is_committed(self) -> bool:
        return self._file.exists()

    def commit(self, commitment: Commitment) -> None:
        with _vault_errors():
            new = self._path / f"{_NEW}{secrets.token_hex(8)}"
            handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(msgspec.json.encode(commitment))
                self._publish(new)
            finally:
                new.unlink(missing_ok=True)

    def _publish(self, new: Path) -> None:
        try:
            os.link(new, self._file, follow_symlinks=False)
        except FileExistsError:
            raise AlreadyCommitted from None
        except FileNotFoundError:
            # A worker that saw another commitment removed our temporary file between our write and our link.
            if self._file.exists():
                raise AlreadyCommitted from None
            raise

    def read(self) -> Commitment | None:
        with _vault_errors():
            try:
                handle = os.open(self._file, os.O_RDONLY | os.O_NOFOLLOW)
            except FileNotFoundError:
                return None
            with os.fdopen(handle, "rb") as file:
                return _decoded(file.read())

    def remove_temporary_files(self) -> None:
        """Remove the temporary files of killed workers: they contain secrets."""
        with _vault_errors():
            for new in self._path.glob(f"{_NEW}*"):
                new.unlink(missing_ok=True)

    def remove(self) -> None:
        """Remove the commitment itself."""
        with _vault_errors():
            self._file.unlink(missing_ok=True)


class _Outdated(msgspec.Struct):
    """A commitment of versions without enrolment."""

    class Secrets(msgspec.Struct, forbid_unknown_fields=True):
        es256: bytes
        es256k: bytes
        ed25519: bytes
        api_key: bytes

    secrets: Secrets
    session: Session


def _decoded(text: bytes) -> Commitment:
    try:
        return msgspec.json.decode(text, type=Commitment)
    except msgspec.ValidationError:
        msgspec.json.decode(text, type=_Outdated)
    # Outside: the message of the first error may quote the secrets.
    raise VaultOutdated(
        f"{VAULT_FILE} is of an older version, without the secrets of enrolment, which only the 24 words give: start "
        "with SIGIL_MNEMONIC_PATH, or remove the file and restore the words in the setup"
    )


@contextmanager
def _vault_errors() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        file = error.filename or VAULT_FILE
        # Never the advice to remove an identity that another user may read.
        step = "; remove it" if error.errno in {errno.ELOOP, errno.EISDIR} else ""
        raise VaultUnusable(f"{file}: {reason_of('use', file, error)}{step}") from error
    except (msgspec.DecodeError, UnicodeDecodeError):
        # Not chained: the message of a decoding error may quote the secrets.
        raise VaultUnusable(f"{VAULT_FILE} is damaged; remove it") from None
