"""A TLS certificate and key, read once and kept in memory, so that every worker of a generation serves the same pair.

A worker reads its pair by path when it starts. If that were the configured path, a worker that is started again after
a renewal would serve another certificate than its siblings, and none at all while the files are half written or (as
on Kubernetes) the directory behind the symlink is gone.
"""

import os
import re
import ssl
import sys
from multiprocessing.reduction import DupFd
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import PublicKeyAlgorithmOID

from sigil.serving.startup_error import StartupError

_ANY_BLOCK = re.compile(rb"-----BEGIN [A-Z0-9 ]*(?:CERTIFICATE|PRIVATE KEY)-----")
_READ_BLOCK = re.compile(rb"^-----BEGIN (?:CERTIFICATE|(?:RSA |EC )?PRIVATE KEY)-----", re.MULTILINE)


class KeptOpen:
    """File descriptors that keep their numbers in the spawned process that gets this object as an argument."""

    def __init__(self, *fds: int) -> None:
        self.fds = fds

    def __getstate__(self) -> dict[str, object]:
        for fd in self.fds:
            DupFd(fd)
        return {"fds": self.fds}


class TlsPair:
    """`cert` and `key`: paths that a worker can read, as long as the pair is not closed."""

    def __init__(self, cert: Path, key: Path) -> None:
        """Read and check the pair, through symlinks as they point now; raise StartupError."""
        self._fds: list[int] = []
        try:
            self.cert, self.key = self._keep(cert), self._keep(key)
            # An empty password instead of none: OpenSSL would ask for it on the terminal and wait.
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(self.cert, self.key, password="")
            unfit = _unfit(Path(self.cert).read_bytes(), cert) or _unread(Path(self.key).read_bytes(), key)
        except OSError as exc:
            self.close()
            raise StartupError(_line(exc, cert, key)) from exc
        if unfit:
            self.close()
            raise StartupError(unfit)

    def _keep(self, path: Path) -> str:
        if sys.platform != "linux":
            return str(path.resolve(strict=True))
        data = path.read_bytes()
        fd = os.memfd_create(path.name)
        self._fds.append(fd)
        os.write(fd, data)
        return f"/proc/self/fd/{fd}"

    def kept_open(self) -> KeptOpen:
        """What a worker must be given so that the paths mean something there."""
        return KeptOpen(*self._fds)

    def close(self) -> None:
        """Forget the key; workers that have started keep theirs."""
        while self._fds:
            os.close(self._fds.pop())


# OpenSSL takes more than the TLS of Granian (rustls with ring), where a worker aborts over it without a word.


def _unfit(pem: bytes, path: Path) -> str | None:
    """Why a certificate that OpenSSL takes cannot be served, in one line; None if it can."""
    try:
        if unread := _unread(pem, path):
            return unread
        if _signs(x509.load_pem_x509_certificate(pem)):
            return None
    except ValueError:
        # A key of a kind that nobody knows.
        pass
    return f"TLS: {path}: its key has to be RSA of 2048 to 4096 bits, P-256, P-384 or Ed25519"


def _unread(pem: bytes, path: Path) -> str | None:
    """Why a block of a PEM file would not be found."""
    if len(_READ_BLOCK.findall(pem)) == len(_ANY_BLOCK.findall(pem)):
        return None
    return (
        f"TLS: {path}: every block has to begin its line (no byte-order mark before it), "
        "as CERTIFICATE or as PRIVATE KEY, and not as TRUSTED CERTIFICATE or the like"
    )


def _signs(certificate: x509.Certificate) -> bool:
    key = certificate.public_key()
    if isinstance(key, rsa.RSAPublicKey):
        plain = certificate.public_key_algorithm_oid == PublicKeyAlgorithmOID.RSAES_PKCS1_v1_5
        return plain and 2048 <= key.key_size <= 4096 and key.public_numbers().e >= 65537
    if isinstance(key, ec.EllipticCurvePublicKey):
        return isinstance(key.curve, ec.SECP256R1 | ec.SECP384R1)
    return isinstance(key, ed25519.Ed25519PublicKey)


def _line(exc: OSError, cert: Path, key: Path) -> str:
    if isinstance(exc, ssl.SSLError):
        return f"TLS: {cert} and {key} are not a certificate and its unencrypted key in PEM"
    return f"TLS: cannot read {exc.filename}: {exc.strerror}"
