"""Which TLS certificate is trusted. Verification cannot be switched off: the peer receives the device's answers."""

from __future__ import annotations

import hashlib
import hmac
import ssl
from typing import Any

import msgspec

from sigil.device.errors import TrustUnusable


class TlsTrust(msgspec.Struct, frozen=True):
    """At most one of: certificates (PEM text) that alone are trusted, or the hex SHA-256 of the DER certificate.

    With neither, the public certificate authorities. Neither is a secret.
    """

    ca_pem: str | None = None
    sha256: str | None = None


def verification(base_url: str, trust: TlsTrust) -> ssl.SSLContext | bool:
    """The `verify` argument of httpx; True means the public authorities. TrustUnusable when the PEM is invalid."""
    if base_url.startswith("http:"):
        # Never used, and trusts no certificate. Loading the public authorities costs 20 ms for each connection object.
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if trust.sha256 is not None:
        return _PinnedContext.of(trust.sha256)
    if trust.ca_pem is not None:
        return _authorities(trust.ca_pem)
    return True


def context(base_url: str, trust: TlsTrust) -> ssl.SSLContext:
    """The same as an SSL context, for libraries other than httpx."""
    verify = verification(base_url, trust)
    if isinstance(verify, ssl.SSLContext):
        return verify
    import httpx

    return httpx.create_ssl_context(trust_env=False)


def _authorities(pem: str) -> ssl.SSLContext:
    # Not create_default_context: from Python 3.13 it refuses self-signed certificates without key identifiers.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.hostname_checks_common_name = False
    # The file may hold the server's own certificate rather than an authority's.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    try:
        context.load_verify_locations(cadata=pem)
    except (ssl.SSLError, ValueError, TypeError) as error:
        raise TrustUnusable("The CA file holds no PEM certificate.") from error
    return context


class _PinnedObject(ssl.SSLObject):
    """A connection over memory buffers, as asyncio uses them."""

    _compared = False

    def do_handshake(self) -> None:
        super().do_handshake()
        context = self.context
        if not isinstance(context, _PinnedContext):
            raise ssl.SSLError("a pinned connection needs a pinned context")
        context.compare(self.getpeercert(binary_form=True))
        self._compared = True

    def write(self, data: Any) -> int:
        # OpenSSL would do the handshake in the first write and skip the comparison.
        if not self._compared:
            raise ssl.SSLError("the certificate has not been compared yet")
        return super().write(data)


class _PinnedContext(ssl.SSLContext):
    """Accepts exactly one certificate, compared after the handshake and before the first byte of a request.

    Chain, name and dates are not checked: the pin names one certificate exactly, and the handshake has proved that
    the peer holds its key.
    """

    sslobject_class = _PinnedObject
    _sha256: bytes

    @classmethod
    def of(cls, sha256: str) -> _PinnedContext:
        context = cls(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context._sha256 = bytes.fromhex(sha256)
        return context

    def compare(self, certificate: bytes | None) -> None:
        if not hmac.compare_digest(hashlib.sha256(certificate or b"").digest(), self._sha256):
            raise ssl.SSLCertVerificationError("the certificate is not the pinned one")

    def wrap_socket(self, *args: Any, **options: Any) -> ssl.SSLSocket:
        wrapped = super().wrap_socket(*args, **options)
        try:
            self.compare(wrapped.getpeercert(binary_form=True))
        except ssl.SSLCertVerificationError:
            wrapped.close()
            raise
        return wrapped
