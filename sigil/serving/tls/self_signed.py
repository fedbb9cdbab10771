"""A self-signed certificate for a server that has no certificate."""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import os
import socket
import tempfile
import time
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from sigil.serving.file_errors import file_error
from sigil.serving.startup_error import StartupError

VALID_DAYS = 397
_AUTHORITY_DAYS = 3650
_ATTEMPTS, _ATTEMPT_SECONDS = 20, 0.1


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


SUBJECT, AUTHORITY = _name("Sigil self-signed"), _name("Sigil self-signed authority")
_FOR_SERVERS = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
_KEY_USAGE = x509.KeyUsage(
    digital_signature=False,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=True,
    crl_sign=False,
    encipher_only=False,
    decipher_only=False,
)


def ensure_pair(cert: Path, key: Path, *, generate: bool) -> bool:
    """True when the pair was missing and has just been created. StartupError when it is missing and cannot be created,
    and when the directory cannot be read.
    """
    missing = [path for path in (cert, key) if not is_present(path)]
    if missing == [cert, key] and generate:
        try:
            _make(cert, key)
        except FileExistsError:
            missing = [cert]
        except OSError as error:
            raise StartupError(
                f"TLS: {file_error('write', cert, error)}; or set TLS_CERT_PATH and TLS_KEY_PATH"
            ) from error
        else:
            return True
    if not missing or (missing == [cert] and generate and _appears(cert)):
        return False
    if len(missing) == 1:
        raise StartupError(
            f"TLS: {missing[0]} is missing, and the other file of the pair exists: restore it, or remove both"
        )
    raise StartupError(
        f"TLS: {cert} and {key} are missing, and TLS_AUTO_GENERATE is false: create them, or set it to true"
    )


def _appears(cert: Path) -> bool:
    """Another server on this volume may have written the key a moment ago, and write the certificate now."""
    for _ in range(_ATTEMPTS):
        if is_present(cert):
            return True
        time.sleep(_ATTEMPT_SECONDS)
    return False


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
        # 0755, unless the umask closes it: a proxy without capabilities reads the certificate there, but not the key.
        path.parent.mkdir(parents=True, exist_ok=True)
    private = ec.generate_private_key(ec.SECP256R1())
    pem = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    # The key first: a crash between the two leaves half a pair, which the next start reports. O_EXCL: of two servers
    # that start on one volume, one makes the pair.
    with os.fdopen(os.open(key, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "wb") as file:
        file.write(pem)
        file.flush()
        os.fsync(file.fileno())
    write_file(cert, pem_of(issue(private, _names(), datetime.datetime.now(datetime.UTC))), 0o644)


Chain = tuple[x509.Certificate, ...]


def issue(
    private: ec.EllipticCurvePrivateKey,
    names: list[x509.GeneralName],
    now: datetime.datetime,
    authority: x509.Certificate | None = None,
) -> Chain:
    """A certificate for `names`, and the authority that signs it: `authority`, or a new one where it ends too early
    or begins in the future.

    Both have the same key, and a renewal keeps key and authority. So a client or a proxy that trusts the file as it was
    accepts each renewed certificate (docs/decisions/0030-certificate-files-and-renewal.md).
    """
    now = now.replace(microsecond=0)
    ends = now + datetime.timedelta(days=VALID_DAYS)
    usable = authority and authority.not_valid_before_utc <= now and authority.not_valid_after_utc >= ends
    if authority is None or not usable:
        authority = _authority(private, names, now)
    public = private.public_key()
    certificate = (
        _builder(SUBJECT, private, now, ends)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_FOR_SERVERS, critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(public), critical=False)
        .sign(private, hashes.SHA256())
    )
    return certificate, authority


def _authority(
    private: ec.EllipticCurvePrivateKey, names: list[x509.GeneralName], now: datetime.datetime
) -> x509.Certificate:
    """For servers of `names` alone: where people trust it, its key gives no power over other sites or over mail."""
    permitted = [
        x509.IPAddress(ipaddress.ip_network(name.value)) if isinstance(name, x509.IPAddress) else name for name in names
    ]
    public = private.public_key()
    return (
        _builder(AUTHORITY, private, now, now + datetime.timedelta(days=_AUTHORITY_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.NameConstraints(permitted, None), critical=True)
        .add_extension(_KEY_USAGE, critical=True)
        .add_extension(_FOR_SERVERS, critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .sign(private, hashes.SHA256())
    )


def _builder(
    subject: x509.Name, private: ec.EllipticCurvePrivateKey, now: datetime.datetime, ends: datetime.datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(AUTHORITY)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(ends)
    )


def pem_of(chain: Chain) -> bytes:
    return b"".join(certificate.public_bytes(serialization.Encoding.PEM) for certificate in chain)


def is_self_made(certificate: x509.Certificate) -> bool:
    """Whether a server of this program made it, this version or an earlier one.

    It has our name, and its own key signed it. No authority signs a certificate with the key in it, so one of another
    origin is never taken for ours.
    """
    public = certificate.public_key()
    if certificate.subject != SUBJECT or not isinstance(public, ec.EllipticCurvePublicKey):
        return False
    try:
        public.verify(certificate.signature, certificate.tbs_certificate_bytes, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        return False
    return True


def _names() -> list[x509.GeneralName]:
    names: list[x509.GeneralName] = []
    for host in dict.fromkeys(["localhost", socket.gethostname().rstrip(".")]):
        # A host name that a certificate cannot contain is left out; it must not stop the start.
        with contextlib.suppress(ValueError):
            names.append(x509.DNSName(host))
    return [*names, *(x509.IPAddress(ipaddress.ip_address(address)) for address in ("127.0.0.1", "::1"))]


def write_file(path: Path, content: bytes, mode: int) -> None:
    """Atomic, and never readable by other users in between."""
    fd, name = tempfile.mkstemp(dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(content)
            file.flush()
            # Some file systems rename an empty file after a power failure otherwise.
            os.fsync(file.fileno())
        temporary.chmod(mode)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
