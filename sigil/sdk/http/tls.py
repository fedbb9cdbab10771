"""Which TLS certificate is trusted. Verification cannot be switched off: the peer receives an API key, and could answer
"verified" to everything.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import ssl
from pathlib import Path
from typing import Any, ClassVar

import httpx

from sigil.protocol.encoding.plain_text import NotPlainText
from sigil.sdk.environment import file_text
from sigil.sdk.errors import ConfigurationError
from sigil.sdk.http.deadline import shortened

_OWNERS = ("ssl", "gevent.ssl")
CA_VARIABLE = "SIGIL_CA_FILE"
# A bundle of all public authorities has 0.3 MB.
_MAX_FILE = 1 << 20
_PIN = re.compile(r"(?:[0-9a-f]{64}|[0-9a-f]{2}(?::[0-9a-f]{2}){31})\Z", re.ASCII | re.IGNORECASE)


def _socket_class(base: Any, pin: bytes | None) -> Any:
    """Sockets that keep the deadline of the call, and compare the certificate where one is pinned.

    base: the context's own class. After gevent's monkey.patch_all() it is gevent's, with other signatures.
    """

    class Socket(base):  # type: ignore[misc]
        def settimeout(self, value: float | None, /) -> None:
            super().settimeout(shortened(value))

        def do_handshake(self, *arguments: Any, **options: Any) -> None:
            super().do_handshake(*arguments, **options)
            _compare(pin, self.getpeercert(binary_form=True))

    return Socket


class _Object(ssl.SSLObject):
    """The same for asynchronous connections, whose deadline is asyncio's."""

    pin: ClassVar[bytes | None] = None

    def do_handshake(self) -> None:
        super().do_handshake()
        _compare(self.pin, self.getpeercert(binary_form=True))


def _compare(pin: bytes | None, certificate: bytes | None) -> None:
    """After the handshake, which proves that the peer has the certificate's key, and before a byte of a request."""
    if pin is not None and not hmac.compare_digest(hashlib.sha256(certificate or b"").digest(), pin):
        raise ssl.SSLCertVerificationError("the certificate is not the one of tls_pin")


def tls_context(ca_file: str | Path | None, tls_pin: str | None) -> ssl.SSLContext:
    """At most one of: a PEM file whose certificates alone are trusted; the SHA-256 of the DER certificate in hex.

    With neither, the public authorities of certifi. ConfigurationError.
    """
    if ca_file is not None and tls_pin is not None:
        raise ConfigurationError("Pass ca_file or tls_pin, not both: the pin alone names one certificate.")
    if tls_pin is not None:
        return _pinned(tls_pin)
    context = httpx.create_ssl_context(trust_env=False) if ca_file is None else _authorities(Path(ca_file))
    context.sslsocket_class = _socket_class(context.sslsocket_class, None)
    return context


def _new_context() -> ssl.SSLContext:
    """ConfigurationError where another library has put its own class in the place of `ssl.SSLContext`.

    That of eventlet makes sockets of its own, which compare no pin; that of truststore trusts the system's authorities
    in addition to a file.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    owner = type(context).__module__
    if owner not in _OWNERS:
        raise ConfigurationError(
            f"ca_file and tls_pin have no effect here: {owner} has replaced ssl.SSLContext. Make the client before "
            "that, or use gevent, asyncio or threads."
        )
    return context


def _pinned(tls_pin: str) -> ssl.SSLContext:
    """Chain, name and dates are not checked: the pin names one certificate exactly."""
    if not _PIN.match(tls_pin):
        raise ConfigurationError("tls_pin must be the SHA-256 of the DER certificate: 64 hex digits, colons allowed.")
    pin = bytes.fromhex(tls_pin.replace(":", ""))
    context = _new_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.sslsocket_class = _socket_class(context.sslsocket_class, pin)
    context.sslobject_class = type("_PinnedObject", (_Object,), {"pin": pin})
    return context


def _authorities(ca_file: Path) -> ssl.SSLContext:
    # Not create_default_context: from Python 3.13 it refuses self-signed certificates without key identifiers.
    context = _new_context()
    context.hostname_checks_common_name = False
    # The file may hold the server's own certificate rather than an authority's.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    try:
        context.load_verify_locations(cadata=file_text(ca_file, _MAX_FILE))
        return context
    except ssl.SSLError:
        fault = f"ca_file (or {CA_VARIABLE}) holds no PEM certificate."
    except OSError as error:
        fault = f"ca_file (or {CA_VARIABLE}) cannot be read: {error.strerror or error}."
    except NotPlainText as error:
        fault = f"ca_file (or {CA_VARIABLE}) {error}."
    except (ValueError, TypeError):
        fault = f"ca_file (or {CA_VARIABLE}) holds no PEM certificate."
    raise ConfigurationError(fault)
