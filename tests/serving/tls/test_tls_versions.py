"""The TLS versions and cipher suites of a server: Debian 12's nginx speaks TLS 1.2 to the servers behind it."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path

import pytest

from tests.serving.running import Running, write_pair


def handshake(server: Running, version: ssl.TLSVersion, ciphers: str = "ALL") -> str | None:
    """The agreed cipher suite, None when there is none."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    # OpenSSL offers suites without forward secrecy only at level 0.
    context.set_ciphers(f"{ciphers}:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = version
    try:
        with (
            socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection,
            context.wrap_socket(connection) as client,
        ):
            client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            assert client.recv(100).startswith(b"HTTP/1.1 200")
            cipher = client.cipher()
            assert cipher is not None
            return cipher[0]
    except (ssl.SSLError, ConnectionError):
        return None


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_a_server_speaks_tls_1_3_and_of_1_2_only_suites_with_forward_secrecy_and_aead(tmp_path: Path) -> None:
    pair = write_pair(tmp_path / "pair", "a")
    with Running(tmp_path, workers=1, tls=[str(pair / "cert.pem"), str(pair / "key.pem")]) as server:
        server.ready()
        assert str(handshake(server, ssl.TLSVersion.TLSv1_3)).startswith("TLS_")
        assert handshake(server, ssl.TLSVersion.TLSv1_2) in {
            "ECDHE-ECDSA-AES256-GCM-SHA384",
            "ECDHE-ECDSA-AES128-GCM-SHA256",
            "ECDHE-ECDSA-CHACHA20-POLY1305",
        }
        for weak in ("AES128-GCM-SHA256", "ECDHE-ECDSA-AES128-SHA256", "ECDHE-ECDSA-AES128-SHA", "DHE-RSA-AES128-SHA"):
            assert handshake(server, ssl.TLSVersion.TLSv1_2, weak) is None
        assert handshake(server, ssl.TLSVersion.TLSv1_1) is None
