"""The server renews the certificate that it made itself (docs/decisions/0030-certificate-files-and-renewal.md).

The key stays, so one rename replaces the pair: no reader finds a certificate and a key that do not belong together.
Only the pair itself is read, not the other files that SIGHUP reads: an operator may have half written those.
"""

from __future__ import annotations

import datetime
import stat
import time
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from sigil.serving import logs
from sigil.serving.bounded import files
from sigil.serving.files.errors import file_error
from sigil.serving.tls.issuing import AUTHORITY, Chain, is_self_made, issue, pem_of
from sigil.serving.tls.self_signed import write_file
from sigil.serving.tls.tls_pair import TlsPair

RENEW_BEFORE = datetime.timedelta(days=30)
_DAY = 86_400.0
# A host may get its time after the start, or lose it: then a certificate is expired or not valid yet at once.
_CHECK = 3600.0
_MAX_BYTES = 64 * 1024


class _OwnPair(NamedTuple):
    private: EllipticCurvePrivateKey
    chain: Chain
    names: list[x509.GeneralName]


class Renewal:
    """Of the pair at `cert` and `key`."""

    def __init__(self, cert: Path, key: Path) -> None:
        self._cert = cert
        self._key = key
        self._warn_at = float("-inf")

    def __call__(self, served: Iterable[TlsPair] = ()) -> tuple[TlsPair | None, float]:
        """Renew the certificate if it is due. The pair that workers should serve instead of `served`, which the caller
        closes, and the seconds to the next call, a day at most.

        A pair is returned whenever workers serve a certificate that is due and the file has a better one: also after
        an attempt to replace them that failed, and where another server renewed the file.
        """
        now = datetime.datetime.now(datetime.UTC)
        pair = _own_pair(self._cert, self._key)
        if pair is None:
            return None, _DAY
        leaf = pair.chain[0]
        if _is_due(leaf, now):
            renewed = self._renew(pair, now)
            if renewed is None:
                return None, _DAY
            leaf = renewed
        wait = (leaf.not_valid_after_utc - RENEW_BEFORE - now).total_seconds() + 1
        stale = any(_is_due(former.certificate, now) and _is_former(former.certificate, leaf) for former in served)
        return (TlsPair(self._cert, self._key) if stale else None), min(wait, _CHECK)

    def _renew(self, pair: _OwnPair, now: datetime.datetime) -> x509.Certificate | None:
        """The new certificate; None if the file cannot be written: the server serves on, and tries again."""
        authority = next((other for other in pair.chain[1:] if other.subject == AUTHORITY), None)
        chain = issue(pair.private, pair.names, now, authority)
        try:
            write_file(self._cert, pem_of(chain), 0o644)
        except OSError as error:
            self._warn(pair, error)
            return None
        self._warn_at = float("-inf")
        message = "clients and proxies that trust the file as it was accept this certificate too"
        if authority is not chain[1]:
            message = "the authority in the file is new: clients and proxies that trust the file need its new content"
        logs.info(
            "certificate_renewed", path=self._cert, ends=f"{chain[0].not_valid_after_utc:%Y-%m-%d}", message=message
        )
        return chain[0]

    def _warn(self, pair: _OwnPair, error: OSError) -> None:
        """Once a day: a start and each reload try too."""
        if time.monotonic() < self._warn_at:
            return
        self._warn_at = time.monotonic() + _DAY - 1
        logs.warn(
            "certificate_not_renewed",
            path=self._cert,
            ends=f"{pair.chain[0].not_valid_after_utc:%Y-%m-%d}",
            # The file of the error is a new one in the directory, which is what denies the access.
            reason=file_error("write", error.filename or self._cert, error),
            message="the self-signed certificate ends soon: make its directory writable, or replace the pair",
        )


def _is_due(certificate: x509.Certificate, now: datetime.datetime) -> bool:
    """It ends soon, or is not valid yet: it was made while the clock of the host was ahead."""
    return certificate.not_valid_after_utc - RENEW_BEFORE <= now or certificate.not_valid_before_utc > now


def _is_former(certificate: x509.Certificate, leaf: x509.Certificate) -> bool:
    return certificate != leaf and is_self_made(certificate) and certificate.public_key() == leaf.public_key()


def _own_pair(cert: Path, key: Path) -> _OwnPair | None:
    """None unless a server of this program made the pair: a link, or a file of another origin, is never replaced."""
    try:
        pem, private = _read(cert), load_pem_private_key(_read(key), None)
        chain = tuple(x509.load_pem_x509_certificates(pem))
        if not isinstance(private, EllipticCurvePrivateKey) or not is_self_made(chain[0]):
            return None
        if any(certificate.public_key() != private.public_key() for certificate in chain):
            return None
        names = chain[0].extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm, x509.ExtensionNotFound, x509.DuplicateExtension):
        return None
    return _OwnPair(private, chain, list(names))


def _read(path: Path) -> bytes:
    if not stat.S_ISREG(files.within_mount_time("find", path, path.lstat).st_mode):
        raise ValueError
    return files.read(path, _MAX_BYTES).data[:_MAX_BYTES]
