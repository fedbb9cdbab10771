"""deploy/nginx/cloudflare.conf: the ranges of the server, as nginx reads them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from deploy.tools.cloudflare_conf import FILE, text
from sigil.serving.cloudflare.ranges import EMBEDDED
from tests.limits import nginx
from tests.support.live import DEADLINE, wait_until
from tests.support.ports import free_port

_CONFIGURATION = """
daemon off; pid {folder}/pid; error_log stderr warn;
events {{ worker_connections 64; }}
http {{
  access_log off; client_body_temp_path {folder}/1; proxy_temp_path {folder}/2; fastcgi_temp_path {folder}/3;
  uwsgi_temp_path {folder}/4; scgi_temp_path {folder}/5;
  server {{ listen 127.0.0.1:{port}; location / {{ return 200 $remote_addr; }} {ranges} }}
}}
"""


def test_the_file_is_current() -> None:
    """`python -m deploy.tools.cloudflare_conf` writes it."""
    assert FILE.read_text() == text()
    assert text().count("set_real_ip_from") == len(EMBEDDED)


def client_seen_by_nginx(folder: Path, ranges: str) -> str:
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if program is None:
        pytest.skip("there is no nginx: `make test-deps` installs it")
    port = free_port()
    (folder / "nginx.conf").write_text(_CONFIGURATION.format(folder=folder, port=port, ranges=ranges))
    process = subprocess.Popen([program, "-e", "stderr", "-p", str(folder), "-c", str(folder / "nginx.conf")])
    try:
        wait_until(lambda: process.poll() is not None or nginx._listens(port), "nginx to listen")
        assert process.poll() is None
        request = "GET / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\nCF-Connecting-IP: 192.0.2.7\r\n\r\n"
        return nginx.fetch(port, request).rpartition("\r\n\r\n")[2]
    finally:
        process.terminate()
        process.wait(DEADLINE)


def test_nginx_takes_the_client_from_cloudflare_alone(tmp_path: Path) -> None:
    assert client_seen_by_nginx(tmp_path, f"include {FILE};") == "127.0.0.1"
    as_cloudflare = text().replace(str(EMBEDDED[0]), "127.0.0.1/32")
    assert client_seen_by_nginx(tmp_path, as_cloudflare) == "192.0.2.7"
