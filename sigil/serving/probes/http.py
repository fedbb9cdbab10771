"""One HTTP/1.1 request without redirects and proxies, which tells a name, a connection, TLS and HTTP apart.

Bounded in time and size also against a peer that answers byte by byte. It imports the standard library alone.
"""

from __future__ import annotations

import re
import socket
import ssl
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Literal, NamedTuple
from urllib.parse import quote, unquote, urlsplit

from sigil.serving.bounded.calls import Call

SECONDS = 6.0
_MAX_HEAD = 64 * 1024
_CHUNK = re.compile(rb"([0-9a-fA-F]{1,8})[^\r\n]{0,256}\r\n")
_LAST_CHUNK = b"\r\n0\r\n\r\n"
Phase = Literal["name", "connection", "tls", "http"]


class Answer(NamedTuple):
    """`certificate` is DER, empty without TLS. `sent` and `received` are Unix seconds; `body` may be cut off."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    certificate: bytes
    sent: float
    received: float

    @property
    def date(self) -> float | None:
        """The peer's time of day in Unix seconds, to one second."""
        try:
            return parsedate_to_datetime(self.headers.get("date", "")).timestamp()
        # The parser of the standard library raises each of them for some text.
        except (ValueError, OverflowError, TypeError, IndexError):
            return None

    @property
    def length(self) -> int | None:
        """The length of the body that the peer announces; None without one."""
        return _length(self.headers)


class NoAnswer(Exception):
    """The phase that failed, and the reason in a few words."""

    def __init__(self, phase: Phase, reason: str) -> None:
        super().__init__(f"{phase}: {reason}")
        self.phase = phase
        self.reason = reason


def get(
    url: str, context: ssl.SSLContext | None, *, headers: Mapping[str, str] | None = None, max_bytes: int = _MAX_HEAD
) -> Answer:
    """The answer to a GET of `url`, with at most `max_bytes` of its body; NoAnswer. `context` is for https alone."""
    ends = time.monotonic() + SECONDS
    parts = urlsplit(url)
    with _connected(url, context, ends) as connection:
        certificate = connection.getpeercert(binary_form=True) if isinstance(connection, ssl.SSLSocket) else None
        path = quote(parts.path or "/", safe="/%~")
        fields = {"Host": parts.netloc.rpartition("@")[2], "Connection": "close", **(headers or {})}
        head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        sent = time.time()
        try:
            connection.sendall(f"GET {path} HTTP/1.1\r\n{head}\r\n".encode("latin-1"))
            text, received = _read(connection, ends, max_bytes)
        except TimeoutError:
            raise NoAnswer("http", f"no answer within {SECONDS:.0f} s") from None
        except OSError as error:
            raise NoAnswer("http", error.strerror or type(error).__name__) from None
    return _parse(text, certificate or b"", sent, received)


def handshake(url: str, context: ssl.SSLContext | None) -> bytes:
    """The certificate in DER that the host of `url` shows, or b"" for http; NoAnswer. Sends no request."""
    with _connected(url, context, time.monotonic() + SECONDS) as connection:
        shown = connection.getpeercert(binary_form=True) if isinstance(connection, ssl.SSLSocket) else None
        return shown or b""


def unverified_context() -> ssl.SSLContext:
    """For this host's own server, whose certificate is examined instead."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _connected(url: str, context: ssl.SSLContext | None, ends: float) -> socket.socket:
    parts = urlsplit(url)
    tls = parts.scheme == "https"
    # In a URL the zone of an IPv6 address is escaped.
    host = unquote(parts.hostname or "")
    try:
        name = host if ":" in host else host.encode("idna").decode()
    except UnicodeError:
        raise NoAnswer("name", "it is no name of a host") from None
    plain = _connect(_addresses(name, parts.port or (443 if tls else 80), ends), ends)
    if not tls or context is None:
        return plain
    try:
        plain.settimeout(_left(ends))
        return context.wrap_socket(plain, server_hostname=name)
    except ssl.SSLCertVerificationError as error:
        plain.close()
        raise NoAnswer("tls", f"its certificate is not accepted ({error.verify_message.rstrip('.')})") from None
    except TimeoutError:
        plain.close()
        raise NoAnswer("tls", f"no TLS handshake within {SECONDS:.0f} s") from None
    except (OSError, ValueError) as error:
        plain.close()
        reason = error.reason if isinstance(error, ssl.SSLError) else getattr(error, "strerror", None)
        raise NoAnswer("tls", f"no TLS ({reason or 'the connection was closed'})") from None


def _addresses(name: str, port: int, ends: float) -> list[tuple[socket.AddressFamily, tuple[object, ...]]]:
    # A lookup has no time-out of its own.
    lookup = Call(lambda: socket.getaddrinfo(name, port, type=socket.SOCK_STREAM))
    if not lookup.wait(_left(ends)):
        raise NoAnswer("name", f"the resolver did not answer within {SECONDS:.0f} s")
    try:
        return [(family, address) for family, _, _, _, address in lookup.result()]
    except (OSError, UnicodeError) as error:
        raise NoAnswer(
            "name", f"it cannot be resolved ({getattr(error, 'strerror', None) or 'no such name'})"
        ) from None


def _connect(addresses: list[tuple[socket.AddressFamily, tuple[object, ...]]], ends: float) -> socket.socket:
    failure = NoAnswer("connection", "it has no address")
    for number, (family, address) in enumerate(addresses):
        plain = socket.socket(family, socket.SOCK_STREAM)
        # The others get their share of the time.
        plain.settimeout(_left(ends) / (len(addresses) - number))
        try:
            plain.connect(address)
        except TimeoutError:
            failure = NoAnswer("connection", f"no answer from {address[0]} port {address[1]}: packets are lost")
        except OSError as error:
            failure = NoAnswer("connection", f"{error.strerror or error} ({address[0]} port {address[1]})")
        else:
            return plain
        plain.close()
    raise failure


def _read(connection: socket.socket, ends: float, max_bytes: int) -> tuple[bytes, float]:
    """The bytes up to the end of the body or `max_bytes` of it, and when the first of them arrived."""
    text, received = bytearray(), 0.0
    while len(text) < max_bytes + _MAX_HEAD and not _complete(text):
        connection.settimeout(_left(ends))
        part = connection.recv(64 * 1024)
        received = received or time.time()
        if not part:
            break
        text += part
    return bytes(text), received


def _complete(text: bytearray) -> bool:
    """A peer may keep the connection open after the body."""
    head, separator, _ = bytes(text[:_MAX_HEAD]).partition(b"\r\n\r\n")
    fields = _fields(head) if separator else {}
    if _is_chunked(fields):
        return text.endswith(_LAST_CHUNK)
    length = _length(fields)
    return length is not None and len(text) - len(head) - 4 >= length


def _parse(text: bytes, certificate: bytes, sent: float, received: float) -> Answer:
    head, separator, body = text.partition(b"\r\n\r\n")
    status = head.split(b"\r\n")[0].split(b" ")
    if not separator or len(status) < 2 or not status[0].startswith(b"HTTP/1.") or not status[1].isdigit():
        raise NoAnswer("http", "what answers there does not speak HTTP" if text else "closed without an answer")
    fields = _fields(head)
    if _is_chunked(fields):
        body = _joined(body)
    return Answer(int(status[1][:3]), fields, body, certificate, sent, received)


def _is_chunked(fields: Mapping[str, str]) -> bool:
    """As a proxy in front of the peer may send it."""
    return fields.get("transfer-encoding", "").lower() == "chunked"


def _joined(body: bytes) -> bytes:
    """The chunks up to the last one that is whole (RFC 9112, section 7.1)."""
    parts, at = [], 0
    while match := _CHUNK.match(body, at):
        ends = match.end() + int(match[1], 16)
        if ends == match.end() or ends > len(body):
            break
        parts.append(body[match.end() : ends])
        at = ends + 2
    return b"".join(parts)


def _fields(head: bytes) -> dict[str, str]:
    lines = [line.decode("latin-1").partition(":") for line in head.split(b"\r\n")[1:]]
    return {name.strip().lower(): value.strip() for name, _, value in lines}


def _length(fields: Mapping[str, str]) -> int | None:
    text = fields.get("content-length", "")
    # isdigit alone accepts superscripts, which int rejects.
    return int(text[:12]) if text.isascii() and text.isdigit() else None


def _left(ends: float) -> float:
    return max(ends - time.monotonic(), 0.001)
