"""The server's certificate: made when there is none and that is allowed, and looked at before the start."""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import os
import socket
import ssl
import tempfile
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_VALID_DAYS = 397


class CertificateError(Exception):
    """The pair cannot be used or made; the message is one line that says what to mend."""


def ensure_certificate(cert: Path, key: Path, *, generate: bool) -> bool:
    """See that `cert` and `key` are a usable pair; True when a self-signed one was made just now."""
    missing = [path for path in (cert, key) if not path.exists()]
    if not missing:
        check_pair(cert, key)
        return False
    if len(missing) == 1:
        raise CertificateError(f"{missing[0]} is missing beside its other half: restore it, or remove both")
    if not generate:
        raise CertificateError(f"{cert} and {key} are missing and TLS_AUTO_GENERATE is false")
    try:
        _generate(cert, key)
    except OSError as error:
        raise CertificateError(f"cannot write {cert} and {key}: {error.strerror}") from error
    return True


def check_pair(cert: Path, key: Path) -> None:
    """CertificateError unless a TLS server can be started with the pair."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert, key, password=_no_password)
    except ssl.SSLError as error:
        reason = "they do not belong together" if error.reason == "KEY_VALUES_MISMATCH" else "one of them is broken"
        raise CertificateError(f"{cert} and {key} are no usable TLS pair: {reason}") from error
    except OSError as error:
        raise CertificateError(f"cannot read {cert} and {key}: {error.strerror}") from error
    except ValueError as error:
        raise CertificateError(f"{key} is encrypted: give the key without a passphrase") from error


def _no_password() -> str:
    # Without it OpenSSL would ask on the terminal and the start would hang.
    raise ValueError("encrypted key")


def _generate(cert: Path, key: Path) -> None:
    private = ec.generate_private_key(ec.SECP256R1())
    for path in (cert, key):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    pem = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    # The key first: a crash between the two leaves half a pair, which the next start names.
    _write(key, pem, 0o600)
    _write(cert, _self_signed(private).public_bytes(serialization.Encoding.PEM), 0o644)


def _self_signed(private: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    now = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Sigil self-signed")])
    hosts = dict.fromkeys(["localhost", socket.gethostname()])
    names: list[x509.GeneralName] = []
    for host in hosts:
        # A host name that no certificate can carry is left out rather than stopping the start.
        with contextlib.suppress(ValueError):
            names.append(x509.DNSName(host))
    names += [x509.IPAddress(ipaddress.ip_address(address)) for address in ("127.0.0.1", "::1")]
    public = private.public_key()
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=_VALID_DAYS))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .sign(private, hashes.SHA256())
    )


def _write(path: Path, content: bytes, mode: int) -> None:
    """Whole or not at all, and never readable by others in between."""
    handle, name = tempfile.mkstemp(dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        temporary.chmod(mode)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
