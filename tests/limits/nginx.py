"""A real nginx on loopback, in front of a server of these tests; by default it speaks TLS 1.2 to it (Debian 12)."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.live import DEADLINE, wait_until
from tests.support.ports import free_port

# The lines of docs/operations.md.
FORWARDING = "proxy_set_header Host $host; proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;"

_CONFIGURATION = """
daemon off;
pid {folder}/pid;
error_log stderr warn;
events {{ worker_connections 256; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  server {{
    listen 127.0.0.1:{port}{options};
    {address}
    location / {{ proxy_pass {upstream}; {location} }}
  }}
}}
"""


@contextlib.contextmanager
def running(folder: Path, upstream: str, location: str = "", *, proxy_protocol: bool = False) -> Iterator[int]:
    """The port of an nginx that forwards to `upstream`.

    With `proxy_protocol` a client of these tests names its own address before its request, as no client on a network
    can: so one may come from Cloudflare's network.
    """
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if program is None:
        pytest.skip("there is no nginx: `make test-deps` installs it")
    port = free_port()
    configuration = folder / "nginx.conf"
    configuration.write_text(
        _CONFIGURATION.format(
            folder=folder,
            port=port,
            options=" proxy_protocol" if proxy_protocol else "",
            address="set_real_ip_from 127.0.0.1; real_ip_header proxy_protocol;" if proxy_protocol else "",
            upstream=upstream,
            location=location,
        )
    )
    with (folder / "nginx.log").open("wb") as log:
        nginx = subprocess.Popen(
            [program, "-e", "stderr", "-p", str(folder), "-c", str(configuration)], stdin=subprocess.DEVNULL, stderr=log
        )
    try:
        wait_until(lambda: nginx.poll() is not None or _listens(port), "nginx to listen")
        assert nginx.poll() is None, (folder / "nginx.log").read_text()
        yield port
    finally:
        nginx.terminate()
        nginx.wait(DEADLINE)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def fetch(port: int, request: str, *, source: str | None = None) -> str:
    """The response to one raw request of HTTP/1.1, on a connection of its own; `source` is the client's address."""
    with socket.create_connection(("127.0.0.1", port), timeout=DEADLINE) as connection:
        if source is not None:
            connection.sendall(f"PROXY TCP4 {source} 127.0.0.1 50000 {port}\r\n".encode())
        connection.sendall(request.encode())
        pieces = []
        while piece := connection.recv(65_536):
            pieces.append(piece)
    return b"".join(pieces).decode()


def status_of(response: str) -> int:
    return int(response.split(" ", 2)[1])
