"""The errors of connections that failed, in plain text: what is wrong, and what to check."""

from __future__ import annotations

import errno
import re
import socket
import ssl
from collections.abc import Iterator

import httpx

from sigil.device.errors import CertificateUntrusted, Peer, Unreachable

# OpenSSL's numbers of the faults that trusting another certificate does not mend (X509_V_ERR_…).
_CERTIFICATE_FAULTS = {
    9: "is not valid yet",
    10: "has expired",
    62: "is for another name",
    64: "is for another address",
}
_ERRNO = re.compile(r"\[Errno -?\d+\] ")
# OpenSSL's reasons when the peer's first bytes are no TLS record.
_NO_TLS = {"HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG", "RECORD_LAYER_FAILURE", "WRONG_VERSION_NUMBER"}
_NO_ROUTE = {errno.ENETUNREACH, errno.EHOSTUNREACH}


def unreachable(origin: str, error: BaseException, peer: Peer = "server") -> Unreachable:
    """The error for a request to `origin` that ended without a response."""
    if fault := certificate_fault(origin, error):
        return CertificateUntrusted(fault, peer)
    return Unreachable(connection_fault(origin, error, peer))


def certificate_fault(origin: str, error: BaseException) -> str | None:
    """One sentence when the certificate is the reason, else None."""
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            # Our own comparison with a pin sets no number.
            code = getattr(cause, "verify_code", None)
            fault = "is not the pinned one" if code is None else _CERTIFICATE_FAULTS.get(code, "is not trusted")
            return f"The certificate of {origin} {fault}."
    return None


def connection_fault(origin: str, error: BaseException, peer: Peer) -> str:
    """Never the number of an operating system's error, nor the name of a Python class."""
    for cause in _causes(error):
        if isinstance(cause, ConnectionRefusedError) or _one_refused(cause):
            return f"Nothing listens at {origin}. Check the address and the port, and that the {peer} runs."
        if isinstance(cause, socket.gaierror):
            return f"The name {_host(origin)} is not known. Check the address."
        if isinstance(cause, TimeoutError | httpx.TimeoutException):
            return f"{origin} did not respond in time. Check the address and the port, and that the {peer} runs."
        if isinstance(cause, OSError) and cause.errno in _NO_ROUTE:
            return f"The network has no route to {origin}. Check the address and the network."
        if isinstance(cause, ssl.SSLError) and getattr(cause, "reason", None) in _NO_TLS:
            return f"{origin} does not speak TLS. Check the address and port, and that the {peer} serves https there."
        if isinstance(cause, ssl.SSLError):
            return f"The TLS handshake with {origin} failed. Check that this is the address and port of the {peer}."
        if isinstance(
            cause, ConnectionError | EOFError | httpx.RemoteProtocolError | httpx.ReadError | httpx.WriteError
        ):
            if origin.startswith("http:"):
                return f"{origin} did not answer over plain http. If the {peer} uses TLS, write https:// in place of http://."
            return f"{origin} closed the connection before it sent a whole response."
    texts = [cause.strerror for cause in _causes(error) if isinstance(cause, OSError) and cause.strerror]
    reason = texts[0] if texts else _ERRNO.sub("", str(error)) or "the connection failed"
    return f"{origin} cannot be reached: {reason.rstrip('.')}."


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error, what caused it, and the members of groups: asyncio libraries try every address of a name."""
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        cause = waiting.pop(0)
        if cause is None or id(cause) in seen:
            continue
        seen.add(id(cause))
        yield cause
        if isinstance(cause, BaseExceptionGroup):
            waiting += cause.exceptions
        waiting += [cause.__cause__, cause.__context__]


def _one_refused(error: BaseException) -> bool:
    """asyncio's error for a name with several addresses has their errors in its text alone."""
    text = str(error)
    return text.startswith("Multiple exceptions: ") and f"[Errno {errno.ECONNREFUSED}]" in text


def _host(origin: str) -> str:
    return httpx.URL(origin).host
