"""A TLS certificate and key, read once and kept in memory: every worker of a generation serves the same pair.

A worker reads its pair by path when it starts. With the configured path, a worker that restarts after a renewal would
serve another certificate than the other workers. It would serve none while the files are half written, or (as on
Kubernetes) while the directory behind the symlink is gone.
"""

import errno
import os
import re
import sys
from pathlib import Path

from cryptography import x509

from sigil.serving.bounded import files
from sigil.serving.files.errors import file_error
from sigil.serving.process.kept_open import KeptOpen
from sigil.serving.startup_error import StartupError
from sigil.serving.tls.issuing import is_self_made
from sigil.serving.tls.trial import refusal_of

_ANY_BLOCK = re.compile(rb"-----BEGIN [A-Z0-9 ]*(?:CERTIFICATE|PRIVATE KEY)-----")
_READ_BLOCK = re.compile(rb"^-----BEGIN (?:CERTIFICATE|(?:RSA |EC )?PRIVATE KEY)-----", re.MULTILINE)

_MAX_BYTES = 1 << 20
_ENCRYPTED = re.compile(rb"^(?:-----BEGIN |Proc-Type: 4,)ENCRYPTED", re.MULTILINE)


class TlsPair:
    """`cert` and `key` are paths that a worker can read until the pair is closed."""

    def __init__(self, cert: Path, key: Path) -> None:
        """Read and check the pair, through the current targets of symlinks; StartupError."""
        self._fds: list[int] = []
        try:
            self.cert, self.key = self._keep(cert), self._keep(key)
            pem, private = Path(self.cert).read_bytes(), Path(self.key).read_bytes()
        except OSError as exc:
            self.close()
            raise StartupError(_read_error(exc, cert)) from exc
        error = _pem_error(pem, cert) or _pem_error(private, key) or self._refusal(cert, key)
        if error:
            self.close()
            raise StartupError(error)
        try:
            self.certificate = x509.load_pem_x509_certificate(pem)
        except ValueError as exc:
            self.close()
            raise StartupError(f"TLS: {cert}: is no certificate in PEM that this server can read: {exc}") from exc
        self.ends = self.certificate.not_valid_after_utc.timestamp()
        self.hsts = _is_issued_for_a_name(self.certificate)
        """Whether browsers may insist on https: past the warning of a self-signed certificate they could not go on."""

    def _keep(self, path: Path) -> str:
        data = files.read(path, _MAX_BYTES, files.RELOAD_PIPE_SECONDS).data
        if len(data) > _MAX_BYTES:
            raise OSError(errno.EFBIG, f"larger than {_MAX_BYTES >> 20} MiB, which is no certificate or key", str(path))
        if sys.platform != "linux":
            return str(path.resolve(strict=True))
        fd = os.memfd_create(path.name)
        self._fds.append(fd)
        os.write(fd, data)
        return f"/proc/self/fd/{fd}"

    def _refusal(self, cert: Path, key: Path) -> str | None:
        reason = refusal_of(self.cert, self.key, self._fds)
        return f"TLS: {cert} and {key}: {reason}" if reason else None

    def kept_open(self) -> KeptOpen:
        """The descriptors that a worker needs for the paths to be valid in its process."""
        return KeptOpen(*self._fds)

    def close(self) -> None:
        """Drop the key; workers that have started keep their copy."""
        while self._fds:
            os.close(self._fds.pop())


def _pem_error(pem: bytes, path: Path) -> str | None:
    """The reason why the TLS server would skip a block of a PEM file, in one line; None if it finds all."""
    if _ENCRYPTED.search(pem):
        return f"TLS: {path}: the key has a passphrase: write it without one (`openssl pkey -in KEY -out NEW_KEY`)"
    if len(_READ_BLOCK.findall(pem)) == len(_ANY_BLOCK.findall(pem)):
        return None
    return (
        f"TLS: {path}: every block must begin at the start of a line (no byte-order mark before it), "
        "with the label CERTIFICATE or PRIVATE KEY, and not TRUSTED CERTIFICATE or another one"
    )


def _is_issued_for_a_name(certificate: x509.Certificate) -> bool:
    """Not self-signed, and not for localhost alone: HSTS there would hold for every port of the machine."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        hosts = set(names.get_values_for_type(x509.DNSName)) - {"localhost"}
    # No such extension, or extensions that cannot be parsed.
    except (x509.ExtensionNotFound, x509.DuplicateExtension, ValueError):
        return False
    return bool(hosts) and certificate.issuer != certificate.subject and not is_self_made(certificate)


def _read_error(exc: OSError, cert: Path) -> str:
    # Out of descriptors, there is no file name.
    path = Path(exc.filename or cert)
    text = f"TLS: {file_error('read', path, exc)}"
    if exc.errno == errno.ENOENT and path.is_symlink():
        text += (
            "; the files in certbot's live directory are such links: mount all of /etc/letsencrypt, or use certbot's "
            "deploy hook (deploy/certbot/deploy-hook.sh), which copies the pair"
        )
    return text
