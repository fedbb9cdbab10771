"""The credentials that a relay needs for the stand-ins: a CA, certificates, Apple's key and Google's service account.

Created once for a directory: they stay valid for a relay when the stand-ins are restarted.
"""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import ipaddress
import os
import secrets
import ssl
import string
from collections.abc import Iterable
from pathlib import Path

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from deploy.providers.apns_token import TeamKey
from deploy.providers.google_tokens import ServiceAccount
from deploy.providers.http.listener import HOST, Mode
from deploy.providers.webpush import google, mozilla

PROJECT = "sigil-stand-in"
TOPIC = "com.example.sigil"
_EMAIL = f"relay@{PROJECT}.iam.gserviceaccount.com"
_YEARS = dt.timedelta(days=3650)
_CERTIFICATES: tuple[Mode, ...] = ("serving", "untrusted", "wrong_name", "expired")
_NAMES = [
    x509.DNSName("localhost"),
    x509.IPAddress(ipaddress.IPv4Address(HOST)),
    # A relay sends a browser's push to the name in its endpoint, and connects to the stand-in instead.
    *(x509.DNSName(name) for name in (*google.HOSTS, mozilla.HOST)),
]
# A new name when the files change: older directories are then filled again.
_MARKER = "ids-2.json"


class _Ids(msgspec.Struct, frozen=True):
    apns_key_id: str
    apns_team_id: str
    fcm_key_id: str


class UnsafeDirectory(Exception):
    """Other users have access to the directory."""


class Credentials:
    """The files of a directory that only its owner can enter (0700); UnsafeDirectory for any other."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if directory.stat().st_mode & 0o077:
            raise UnsafeDirectory(
                f"{directory}: other users may enter it; give a directory with mode 0700, or a new one"
            )
        self._directory = directory
        # Written last: without it the other files are incomplete.
        if not (directory / _MARKER).exists():
            self._create()
        self._ids = msgspec.json.decode((directory / _MARKER).read_bytes(), type=_Ids)

    def contexts(self, protocol: str) -> dict[Mode, ssl.SSLContext]:
        """A TLS context for each mode of a listener; `protocol` is the only one that ALPN offers."""
        return {mode: self._context(mode, protocol) for mode in _CERTIFICATES}

    def team_key(self) -> TeamKey:
        key = self._key("apns-key.p8")
        assert isinstance(key, ec.EllipticCurvePrivateKey)  # noqa: S101  (written by _create)
        return TeamKey(key.public_key(), self._ids.apns_key_id, self._ids.apns_team_id)

    def service_account(self, token_url: str) -> ServiceAccount:
        """Writes the file that Google issues, with the stand-in's address as its `token_uri`."""
        key = self._key("fcm-key.pem")
        assert isinstance(key, rsa.RSAPrivateKey)  # noqa: S101  (written by _create)
        content = {
            "type": "service_account",
            "project_id": PROJECT,
            "private_key_id": self._ids.fcm_key_id,
            "private_key": _pem(key).decode(),
            "client_email": _EMAIL,
            "client_id": "100000000000000000000",
            "token_uri": token_url,
            "universe_domain": "googleapis.com",
        }
        self._write("fcm-service-account.json", msgspec.json.encode(content))
        return ServiceAccount(key.public_key(), self._ids.fcm_key_id, _EMAIL, token_url)

    def key_hash(self) -> str:
        """SHA-256 of the public key of the servers' certificate (SPKI), in base64."""
        certificate = x509.load_pem_x509_certificate((self._directory / "serving.pem").read_bytes())
        spki = certificate.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        return base64.b64encode(hashlib.sha256(spki).digest()).decode()

    def publish(self, urls: dict[str, str], browsers: dict[str, object]) -> dict[str, object]:
        """Writes providers.json, and returns its content."""
        content: dict[str, object] = {**urls, "env": self._environment(urls)}
        # Apart from `env`: with it, a relay no longer reaches the vendors' services.
        address = urls["webpush_url"].removeprefix("https://")
        hosts = " ".join(f"{name}={address}" for name in (*google.HOSTS, mozilla.HOST))
        content |= {"webpush_env": {"RELAY_WEBPUSH_HOSTS": hosts}, "browsers": browsers}
        self._write("providers.json", msgspec.json.format(msgspec.json.encode(content), indent=2) + b"\n")
        return content

    def _environment(self, urls: dict[str, str]) -> dict[str, str]:
        return {
            "APNS_KEY_PATH": str(self._directory / "apns-key.p8"),
            "APNS_KEY_ID": self._ids.apns_key_id,
            "APNS_TEAM_ID": self._ids.apns_team_id,
            "APNS_TOPIC": TOPIC,
            "APNS_ENVIRONMENT": "production",
            "APNS_URL": urls["apns_url"],
            "FCM_SERVICE_ACCOUNT": str(self._directory / "fcm-service-account.json"),
            "FCM_URL": urls["fcm_url"],
            "FCM_TOKEN_URL": urls["fcm_token_url"],
            "SSL_CERT_FILE": str(self._directory / "ca.pem"),
        }

    def _create(self) -> None:
        authority = _Authority("Sigil stand-in CA")
        untrusted = _Authority("Untrusted CA")
        now = dt.datetime.now(dt.UTC)
        past = now - dt.timedelta(days=30)
        wrong_name = [x509.DNSName("elsewhere.invalid")]
        self._write("ca.pem", authority.pem())
        self._write("serving.pem", authority.issue(_NAMES, past, now + _YEARS))
        self._write("untrusted.pem", untrusted.issue(_NAMES, past, now + _YEARS))
        self._write("wrong_name.pem", authority.issue(wrong_name, past, now + _YEARS))
        self._write("expired.pem", authority.issue(_NAMES, past, now - dt.timedelta(days=1)))
        self._write("apns-key.p8", _pem(ec.generate_private_key(ec.SECP256R1())))
        self._write("fcm-key.pem", _pem(rsa.generate_private_key(65537, 2048)))
        ids = _Ids(_apple_id(), _apple_id(), secrets.token_hex(20))
        self._write(_MARKER, msgspec.json.encode(ids))

    def _context(self, mode: Mode, protocol: str) -> ssl.SSLContext:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self._directory / f"{mode}.pem")
        context.set_alpn_protocols([protocol])
        return context

    def _key(self, name: str) -> object:
        return serialization.load_pem_private_key((self._directory / name).read_bytes(), None)

    def _write(self, name: str, content: bytes) -> None:
        """Created with mode 0600, and complete when it becomes visible."""
        draft = self._directory / f".{name}"
        draft.unlink(missing_ok=True)
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(content)
        draft.replace(self._directory / name)


class _Authority:
    """Issues the certificates of a directory. Its key is not stored."""

    def __init__(self, name: str) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        now = dt.datetime.now(dt.UTC)
        usage = x509.KeyUsage(
            digital_signature=False, key_cert_sign=True, crl_sign=True, content_commitment=False,
            key_encipherment=False, data_encipherment=False, key_agreement=False, encipher_only=False,
            decipher_only=False,
        )  # fmt: skip
        self._certificate = (
            self._begin(self._name, self._key.public_key(), now - dt.timedelta(days=60), now + _YEARS)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self._key.public_key()), critical=False)
            .sign(self._key, hashes.SHA256())
        )

    def pem(self) -> bytes:
        return self._certificate.public_bytes(serialization.Encoding.PEM)

    def issue(self, names: Iterable[x509.GeneralName], begins: dt.datetime, ends: dt.datetime) -> bytes:
        """Certificate and key in one file."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Sigil stand-in")])
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        certificate = (
            self._begin(subject, key.public_key(), begins, ends)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(issuer, critical=False)
            .sign(self._key, hashes.SHA256())
        )
        return certificate.public_bytes(serialization.Encoding.PEM) + _pem(key)

    def _begin(
        self, subject: x509.Name, key: ec.EllipticCurvePublicKey, begins: dt.datetime, ends: dt.datetime
    ) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(begins)
            .not_valid_after(ends)
        )


def _pem(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _apple_id() -> str:
    """Ten characters, as in key ids and team ids."""
    return "".join(secrets.choice(string.ascii_uppercase + string.digits) for _ in range(10))
