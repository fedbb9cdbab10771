"""The pair of files of a server that has no certificate: it makes them once, and never replaces a file here."""

from __future__ import annotations

import datetime
import ipaddress
import os
import re
import socket
import tempfile
import time
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from sigil.console.new_file import create_file
from sigil.serving.bounded import files
from sigil.serving.files.errors import file_error
from sigil.serving.files.writable import creation_error
from sigil.serving.startup_error import StartupError
from sigil.serving.tls.issuing import issue, pem_of

_HOST = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*\Z", re.ASCII)
_ATTEMPTS, _ATTEMPT_SECONDS = 20, 0.1


def ensure_pair(cert: Path, key: Path, *, generate: bool) -> bool:
    """True when the pair was missing and has just been created. StartupError when it is missing and cannot be created,
    and when the directory cannot be read.
    """
    missing = [path for path in (cert, key) if not is_present(path)]
    _require_two_files(cert, key, missing)
    if missing == [cert, key] and generate:
        # Of both first: a key alone would stop the next start.
        _require_writable(cert, key)
        try:
            _make(cert, key)
        except FileExistsError:
            missing = [cert]
        except OSError as error:
            raise StartupError(_cannot_write(cert, error)) from error
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


def check_pair(cert: Path, key: Path, *, generate: bool) -> bool:
    """`ensure_pair` without a change: StartupError for what it would raise. True when the pair is there."""
    if generate and not is_present(cert) and not is_present(key):
        _require_two_files(cert, key, [cert, key])
        _require_writable(cert, key)
        return False
    ensure_pair(cert, key, generate=False)
    return True


def _require_two_files(cert: Path, key: Path, missing: list[Path]) -> None:
    """One file may hold both, but the server makes two: clients are given the file of the certificate."""
    if missing and cert == key:
        raise StartupError(
            f"TLS: {cert} is missing, and TLS_CERT_PATH and TLS_KEY_PATH both name it: create it, or name two files"
        )


def _require_writable(*paths: Path) -> None:
    for path in paths:
        if error := creation_error(path):
            raise StartupError(_cannot_write(path, error)) from error


def _cannot_write(path: Path, error: OSError) -> str:
    return f"TLS: {file_error('write', path, error)}; or set TLS_CERT_PATH and TLS_KEY_PATH"


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
        files.within_mount_time("find", path, path.lstat)
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
    # The key first: a crash between the two leaves half a pair, which the next start reports. Of two servers that start
    # on one volume, one makes the pair.
    create_file(key, pem)
    write_file(cert, pem_of(issue(private, _names(), datetime.datetime.now(datetime.UTC))), 0o644)


def _names() -> list[x509.GeneralName]:
    names: list[x509.GeneralName] = []
    for host in dict.fromkeys(["localhost", socket.gethostname().rstrip(".")]):
        # Other host names are left out: clients reject a certificate with one, and an empty one would permit the
        # authority in the file every name.
        if _HOST.match(host):
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
