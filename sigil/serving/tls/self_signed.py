"""A self-signed certificate for a server that has no certificate."""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import os
import socket
import tempfile
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from sigil.serving.file_errors import file_error
from sigil.serving.startup_error import StartupError

_VALID_DAYS = 397


def ensure_pair(cert: Path, key: Path, *, generate: bool) -> bool:
    """True when the pair was missing and has just been created. StartupError when it is missing and cannot be created,
    and when the directory cannot be read.
    """
    missing = [path for path in (cert, key) if not is_present(path)]
    if not missing:
        return False
    if len(missing) == 1:
        raise StartupError(
            f"TLS: {missing[0]} is missing, and the other file of the pair exists: restore it, or remove both"
        )
    if not generate:
        raise StartupError(
            f"TLS: {cert} and {key} are missing, and TLS_AUTO_GENERATE is false: create them, or set it to true"
        )
    try:
        _make(cert, key)
    except OSError as error:
        raise StartupError(f"TLS: {file_error('write', cert, error)}; or set TLS_CERT_PATH and TLS_KEY_PATH") from error
    return True


def is_present(path: Path) -> bool:
    """A symlink counts even if its target is missing: the volume may not be mounted, and the link must not be replaced.
    StartupError when this user may not read the directory.
    """
    try:
        path.lstat()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise StartupError(f"TLS: {file_error('read', path, error)}") from error
    return True


def _make(cert: Path, key: Path) -> None:
    for path in (cert, key):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    private = ec.generate_private_key(ec.SECP256R1())
    pem = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    # The key first: a crash between the two leaves half a pair, which the next start reports.
    _write(key, pem, 0o600)
    _write(cert, certificate(private).public_bytes(serialization.Encoding.PEM), 0o644)


def certificate(private: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    """For localhost, the loopback addresses and this host's name."""
    now = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Sigil self-signed")])
    public = private.public_key()
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=_VALID_DAYS))
        .add_extension(x509.SubjectAlternativeName(_names()), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .sign(private, hashes.SHA256())
    )


def _names() -> list[x509.GeneralName]:
    names: list[x509.GeneralName] = []
    for host in dict.fromkeys(["localhost", socket.gethostname()]):
        # A host name that a certificate cannot contain is left out; it must not stop the start.
        with contextlib.suppress(ValueError):
            names.append(x509.DNSName(host))
    return [*names, *(x509.IPAddress(ipaddress.ip_address(address)) for address in ("127.0.0.1", "::1"))]


def _write(path: Path, content: bytes, mode: int) -> None:
    """Atomic, and never readable by other users in between."""
    fd, name = tempfile.mkstemp(dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(content)
        temporary.chmod(mode)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
