"""nginx and Caddy of this machine, started by the scripts of deploy/ on loopback; only their environment differs."""

from __future__ import annotations

import contextlib
import datetime
import os
import shutil
import socket
import ssl
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from sigil.serving.tls.issuing import issue, pem_of
from tests.support.live import DEADLINE, wait_until
from tests.support.ports import free_port

DEPLOY = Path(__file__).parents[2] / "deploy"
SIGIL, RELAY = "sigil.test", "relay.test"
Name = Literal["nginx", "caddy"]
NAMES: tuple[Name, ...] = ("nginx", "caddy")


@dataclass(frozen=True)
class Upstream:
    """Addresses of the services, and the certificate by which a proxy verifies sigil."""

    sigil: str
    certificate: Path
    relay: str = "127.0.0.1:9"
    sockets: str = "127.0.0.1:9"


def write_pair(folder: Path, *names: str, cert: str = "cert.pem", key: str = "key.pem") -> None:
    """A new self-signed certificate for names, and its key; each file is replaced in one step."""
    private = ec.generate_private_key(ec.SECP256R1())
    chain = issue(private, [x509.DNSName(name) for name in names], datetime.datetime.now(datetime.UTC))
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    for name, content in (
        (key, private.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain)),
        (cert, pem_of(chain)),
    ):
        written = folder / f"{name}.new"
        written.write_bytes(content)
        written.rename(folder / name)


class Proxy:
    """A running proxy. Clients connect to `port` for HTTPS, `http_port` for HTTP, on 127.0.0.1 and ::1."""

    def __init__(self, name: Name, folder: Path, port: int, http_port: int) -> None:
        self.name = name
        self.folder = folder
        self.certificates = folder / "certs"
        self.port = port
        self.http_port = http_port
        self.log_path = folder / "log"

    def tls(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.certificates / "cert.pem"))

    def client(self, host: str = SIGIL, source: str = "127.0.1.1", **options: Any) -> httpx.Client:
        """A client at `source` that verifies the proxy's certificate for `host`."""

        def name(request: httpx.Request) -> None:
            request.extensions["sni_hostname"] = host

        http2 = options.pop("http2", False)
        return httpx.Client(
            base_url=f"https://{'[::1]' if ':' in source else '127.0.0.1'}:{self.port}",
            headers={"Host": host, **options.pop("headers", {})},
            transport=httpx.HTTPTransport(verify=self.tls(), local_address=source, http2=http2),
            event_hooks={"request": [name]},
            timeout=DEADLINE,
            **options,
        )

    def connect(self, host: str = SIGIL, source: str = "127.0.1.1") -> ssl.SSLSocket:
        address = "::1" if ":" in source else "127.0.0.1"
        plain = socket.create_connection((address, self.port), timeout=DEADLINE, source_address=(source, 0))
        return self.tls().wrap_socket(plain, server_hostname=host)

    def log(self) -> str:
        return self.log_path.read_text()


def raw(method: str, path: str, *lines: str, body: str = "", host: str = SIGIL) -> bytes:
    """A request of HTTP/1.1 on a connection of its own."""
    length = f"Content-Length: {len(body)}\r\n" if body or method == "POST" else ""
    more = "".join(f"{line}\r\n" for line in lines)
    kind = "Content-Type: application/json\r\n" if body else ""
    close = "" if any(line.lower().startswith("connection:") for line in lines) else "Connection: close\r\n"
    return f"{method} {path} HTTP/1.1\r\nHost: {host}\r\n{close}{kind}{length}{more}\r\n{body}".encode("latin-1")


@contextlib.contextmanager
def proxy(name: Name, upstream: Upstream, **settings: str) -> Iterator[Proxy]:
    if not (shutil.which(name) or shutil.which(name, path="/usr/sbin")):
        pytest.skip(f"there is no {name}: `make test-deps` installs it")
    # Not pytest's own directory: a worker of nginx runs as another user, and may not enter that one.
    folder = Path(tempfile.mkdtemp(prefix=f"sigil-{name}-"))
    folder.chmod(0o755)
    running = Proxy(name, folder, free_port(), free_port())
    running.certificates.mkdir()
    write_pair(running.certificates, SIGIL, RELAY)
    environ = {**_environ(running, upstream), **settings}
    process = None
    try:
        with running.log_path.open("ab") as log:
            process = subprocess.Popen(
                ["/bin/sh", str(DEPLOY / name / "start.sh")],
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        started = process
        wait_until(lambda: started.poll() is not None or _listens(running), f"{name} to listen")
        assert process.poll() is None, running.log()
        yield running
    finally:
        if process is not None:
            process.terminate()
            process.wait(DEADLINE)
        shutil.rmtree(folder, ignore_errors=True)


def _environ(running: Proxy, upstream: Upstream) -> Mapping[str, str]:
    folder, own = running.folder, running.certificates
    return {
        "PATH": f"{os.environ.get('PATH', '')}:/usr/sbin",
        "SIGIL_DOMAIN": SIGIL,
        "RELAY_DOMAIN": RELAY,
        "SIGIL_UPSTREAM": upstream.sigil,
        "SIGIL_UPSTREAM_CERT": str(upstream.certificate),
        # The server of a test runs on a host whose name is not sigil.
        "SIGIL_UPSTREAM_NAME": "localhost",
        "RELAY_UPSTREAM": upstream.relay,
        "RELAY_WS_UPSTREAM": upstream.sockets,
        "RELOAD_CHECK_SECONDS": "1",
        "NGINX_RUN": str(folder / "run"),
        "NGINX_CERTS_DIR": str(own),
        "NGINX_ACME_DIR": str(folder / "acme"),
        "NGINX_LISTEN": "127.0.0.1 [::1]",
        "NGINX_HTTPS_PORT": str(running.port),
        "NGINX_HTTP_PORT": str(running.http_port),
        "XDG_DATA_HOME": str(folder),
        "XDG_CONFIG_HOME": str(folder),
        "CADDY_TLS": f"{own}/cert.pem {own}/key.pem",
        "CADDY_ADMIN": f"unix/{folder}/admin",
        "CADDY_OPTIONS": f"default_bind 127.0.0.1 [::1]\nhttps_port {running.port}\nhttp_port {running.http_port}\n"
        f"admin unix/{folder}/admin",
    }


def _listens(running: Proxy) -> bool:
    ports = (running.port, running.http_port)
    addresses = [(host, port) for port in ports for host in ("127.0.0.1", "::1")]
    return all(_accepts(host, port) for host, port in addresses)


def _accepts(host: str, port: int) -> bool:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        return probe.connect_ex((host, port)) == 0


def read_all(connection: ssl.SSLSocket) -> bytes:
    pieces = []
    with contextlib.suppress(ssl.SSLEOFError, ConnectionResetError):
        while piece := connection.recv(65_536):
            pieces.append(piece)
    return b"".join(pieces)


def status_of(response: bytes) -> int:
    return int(response.split(b" ", 2)[1])


Start = Callable[..., contextlib.AbstractContextManager[Proxy]]
