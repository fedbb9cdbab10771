"""The server renews the certificate that it made itself (docs/decisions/0030-certificate-files-and-renewal.md).

The key stays, so one rename replaces the pair: no reader finds a certificate and a key that do not belong together.
"""

from __future__ import annotations

import datetime
import stat
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from sigil.serving import logs
from sigil.serving.file_errors import file_error
from sigil.serving.tls.self_signed import AUTHORITY, Chain, is_self_made, issue, pem_of, write_file

RENEW_BEFORE = datetime.timedelta(days=30)
_DAY = 86_400.0
_MAX_BYTES = 64 * 1024


class _OwnPair(NamedTuple):
    private: EllipticCurvePrivateKey
    chain: Chain


class Renewal:
    """Of the pair at `cert` and `key`."""

    def __init__(self, cert: Path, key: Path) -> None:
        self._cert = cert
        self._key = key

    def __call__(self) -> tuple[bool, float]:
        """Renew the certificate if it is due: whether it was, and the seconds to the next call, a day at most."""
        now = datetime.datetime.now(datetime.UTC)
        pair = _own_pair(self._cert, self._key)
        if pair is None:
            return False, _DAY
        due_in = (pair.chain[0].not_valid_after_utc - RENEW_BEFORE - now).total_seconds()
        if due_in > 0:
            return False, min(due_in + 1, _DAY)
        return self._renew(pair, now), _DAY

    def _renew(self, pair: _OwnPair, now: datetime.datetime) -> bool:
        """False if the file cannot be written: the server serves on, and tries again a day later."""
        names = pair.chain[0].extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        authority = next((other for other in pair.chain[1:] if other.subject == AUTHORITY), None)
        chain = issue(pair.private, list(names), now, authority)
        ends = f"{chain[0].not_valid_after_utc:%Y-%m-%d}"
        try:
            write_file(self._cert, pem_of(chain), 0o644)
        except OSError as error:
            logs.warn(
                "certificate_not_renewed",
                path=self._cert,
                ends=f"{pair.chain[0].not_valid_after_utc:%Y-%m-%d}",
                # The file of the error is a new one in the directory, which is what denies the access.
                reason=file_error("write", error.filename or self._cert, error),
                message="the self-signed certificate ends soon: make its directory writable, or replace the pair",
            )
            return False
        message = "clients and proxies that trust the file as it was accept this certificate too"
        if authority is not chain[1]:
            message = "the authority in the file is new: clients and proxies that trust the file need its new content"
        logs.info("certificate_renewed", path=self._cert, ends=ends, message=message)
        return True


def _own_pair(cert: Path, key: Path) -> _OwnPair | None:
    """None unless a server of this program made the pair: a link, or a file of another origin, is never replaced."""
    try:
        pem, private = _read(cert), load_pem_private_key(_read(key), None)
        chain = tuple(x509.load_pem_x509_certificates(pem))
        if not isinstance(private, EllipticCurvePrivateKey) or not is_self_made(chain[0]):
            return None
        if any(certificate.public_key() != private.public_key() for certificate in chain):
            return None
    except (OSError, ValueError, TypeError):
        return None
    return _OwnPair(private, chain)


def _read(path: Path) -> bytes:
    if not stat.S_ISREG(path.lstat().st_mode):
        raise ValueError
    with path.open("rb") as file:
        return file.read(_MAX_BYTES)
