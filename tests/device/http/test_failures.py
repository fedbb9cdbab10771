"""The texts of failed connections: plain, and without the numbers and class names behind them."""

from __future__ import annotations

import errno
import re
import socket
import ssl

import httpx
import pytest

from sigil.device.errors import CertificateUntrusted, Peer, Unreachable
from sigil.device.http.async_connection import AsyncServerConnection
from sigil.device.http.connection import ServerConnection
from sigil.device.http.failures import unreachable
from sigil.device.http.tls import TlsTrust
from sigil.device.relay.client import RelayClient
from sigil.device.relay.errors import RelayLost
from sigil.device.software import Device
from tests.device.tls import Tls
from tests.support.ports import free_port

ORIGIN = "https://x.example:8443"
RUNS = "Check the address and the port, and that the server runs."


def caused(cause: BaseException) -> Exception:
    error = httpx.ConnectError("[Errno 0] everything in the text of httpx")
    error.__cause__ = cause
    return error


def certificate_error(code: int) -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(1, "[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed (_ssl.c:992)")
    error.verify_code = code
    return error


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (caused(ConnectionRefusedError(111, "Connection refused")), f"Nothing listens at {ORIGIN}. {RUNS}"),
        (
            caused(ExceptionGroup("all", [ConnectionRefusedError(111, "no"), ConnectionRefusedError(111, "no")])),
            f"Nothing listens at {ORIGIN}. {RUNS}",
        ),
        (
            OSError(f"Multiple exceptions: [Errno {errno.ECONNREFUSED}] a, [Errno {errno.ECONNREFUSED}] b"),
            f"Nothing listens at {ORIGIN}. {RUNS}",
        ),
        (
            caused(socket.gaierror(-2, "Name or service not known")),
            "The name x.example is not known. Check the address.",
        ),
        (httpx.ConnectTimeout("timed out"), f"{ORIGIN} did not respond in time. {RUNS}"),
        (TimeoutError(), f"{ORIGIN} did not respond in time. {RUNS}"),
        (
            caused(OSError(errno.EHOSTUNREACH, "No route to host")),
            f"The network has no route to {ORIGIN}. Check the address and the network.",
        ),
        (
            ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] wrong version number (_ssl.c:992)"),
            f"The TLS handshake with {ORIGIN} failed. Check that this is the address and port of the server.",
        ),
        (
            httpx.RemoteProtocolError("Server disconnected without sending a response."),
            f"{ORIGIN} closed the connection before it sent a whole response.",
        ),
        (OSError(errno.EMFILE, "Too many open files"), f"{ORIGIN} cannot be reached: Too many open files."),
        (httpx.HTTPError(""), f"{ORIGIN} cannot be reached: the connection failed."),
    ],
)
def test_a_failure_has_a_plain_text(error: BaseException, text: str) -> None:
    failure = unreachable(ORIGIN, error)
    assert (failure.message, failure.code) == (text, "SERVER_UNREACHABLE")


@pytest.mark.parametrize(
    ("code", "fault"),
    [
        (18, "is not trusted"),
        (20, "is not trusted"),
        (10, "has expired"),
        (9, "is not valid yet"),
        (62, "is for another name"),
        (64, "is for another address"),
    ],
)
def test_a_certificate_failure_names_its_fault(code: int, fault: str) -> None:
    failure = unreachable(ORIGIN, caused(certificate_error(code)))
    assert isinstance(failure, CertificateUntrusted)
    assert (failure.fault, failure.code) == (f"The certificate of {ORIGIN} {fault}.", "SERVER_UNREACHABLE")
    assert failure.message == f"{failure.fault} Pass a TlsTrust with ca_pem or sha256."


@pytest.mark.parametrize("peer", ["server", "relay"])
def test_the_text_names_the_peer(peer: Peer) -> None:
    assert unreachable(ORIGIN, ConnectionRefusedError(), peer).message.endswith(f"that the {peer} runs.")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_both_connections_and_the_websocket_recognise_a_port_without_a_listener(host: str) -> None:
    url = f"http://{host}:{free_port()}"
    expected = re.escape(f"Nothing listens at {url}. {RUNS}")
    with ServerConnection(url) as connection, pytest.raises(Unreachable, match=expected):
        connection.info()
    async with AsyncServerConnection(url) as asynchronous:
        with pytest.raises(Unreachable, match=expected):
            await asynchronous.info()
    expected = expected.replace("server", "relay")
    async with RelayClient(url, any_http=True) as relay:
        with pytest.raises(Unreachable, match=expected):
            await relay.register(Device.generate())
        with pytest.raises(RelayLost, match=expected):
            await relay.connect(Device.generate())


def test_a_certificate_that_is_not_the_pinned_one(tls: Tls) -> None:
    with (
        ServerConnection(tls.url, TlsTrust(sha256="00" * 32)) as connection,
        pytest.raises(CertificateUntrusted) as bad,
    ):
        connection.info()
    assert bad.value.fault == f"The certificate of {tls.url} is not the pinned one."
