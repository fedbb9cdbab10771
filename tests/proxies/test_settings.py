"""The scripts that start the proxies: bad input, and the forms of nginx before and after 1.25.1."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.proxies.running import DEPLOY, write_pair
from tests.support.ports import free_port

GOOD = {
    "SIGIL_DOMAIN": "sigil.example.com",
    "RELAY_DOMAIN": "relay.example.com",
    "SIGIL_UPSTREAM": "172.30.53.10:8443",
    "RELAY_UPSTREAM": "172.30.53.11:8080",
    "RELAY_WS_UPSTREAM": "172.30.53.11:8081",
}


def run(script: str, **settings: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["/bin/sh", str(DEPLOY / script)],
        env={"PATH": f"{os.environ['PATH']}:/usr/sbin", "START_SECONDS": "1", **settings},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    ("version", "has", "has_not"),
    [
        ("1.22.1", "listen 0.0.0.0:443 ssl http2;", "http2 on;"),
        ("1.25.0", "listen [::]:443 ssl http2;", "http2 on;"),
        ("1.25.1", "http2 on;", "ssl http2"),
        ("1.28.0", "http2 on;", "ssl http2"),
        ("2.0.0", "http2 on;", "ssl http2"),
    ],
)
def test_http_2_has_the_form_of_the_version(version: str, has: str, has_not: str) -> None:
    ran = run("nginx/render.sh", NGINX_VERSION=version, **GOOD)
    lines = [line for line in ran.stdout.splitlines() if not line.startswith("#")]
    assert (ran.returncode, ran.stderr) == (0, "")
    assert has in "\n".join(lines)
    assert has_not not in "\n".join(lines)
    assert "${" not in "\n".join(lines)


def test_nginx_takes_no_more_descriptors_than_its_container_has() -> None:
    """Without the right to raise the limit, nginx logs an alert for each worker."""
    for limit in (512, 1024):
        script = ["prlimit", f"--nofile={limit}", "/bin/sh", str(DEPLOY / "nginx/render.sh"), "nginx.conf"]
        ran = subprocess.run(script, env={"PATH": os.environ["PATH"]}, capture_output=True, text=True, check=True)
        assert f"worker_rlimit_nofile {limit};" in ran.stdout
        assert f"worker_connections {limit // 2};" in ran.stdout
        assert "${" not in ran.stdout


@pytest.mark.skipif(not Path("/etc/nginx/nginx.conf").exists(), reason="there is no nginx of Debian")
def test_the_output_is_valid_inside_the_main_file_of_debian(tmp_path: Path) -> None:
    """Its own http block sets some of the same directives, which nginx permits once per block."""
    main = Path("/etc/nginx/nginx.conf").read_text()
    kept = [line for line in main.splitlines() if not line.lstrip().startswith(("include", "user", "pid", "error_log"))]
    write_pair(tmp_path, "sigil.example.com", "relay.example.com")
    rendered = run(
        "nginx/render.sh",
        **GOOD,
        NGINX_CERTS_DIR=str(tmp_path),
        SIGIL_UPSTREAM_CERT=str(tmp_path / "cert.pem"),
        NGINX_ACCESS_LOG=str(tmp_path / "access"),
        NGINX_LISTEN="127.0.0.1",
        NGINX_HTTPS_PORT=str(free_port()),
        NGINX_HTTP_PORT=str(free_port()),
        NGINX_CLOUDFLARE="on",
    )
    assert rendered.returncode == 0, rendered.stderr
    (tmp_path / "sigil.conf").write_text(rendered.stdout)
    text = "\n".join(kept).replace("http {", f"http {{\ninclude {tmp_path}/sigil.conf;\n")
    text = text.replace("/var/log/nginx/", f"{tmp_path}/")
    (tmp_path / "nginx.conf").write_text(f"pid {tmp_path}/pid;\nerror_log stderr;\n{text}")
    nginx = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    assert nginx is not None
    checked = subprocess.run(
        [nginx, "-t", "-e", "stderr", "-p", str(tmp_path), "-c", str(tmp_path / "nginx.conf")],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert checked.returncode == 0, checked.stderr


@pytest.mark.parametrize("script", ["nginx/render.sh", "nginx/start.sh", "caddy/start.sh"])
@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"SIGIL_DOMAIN": ""}, "SIGIL_DOMAIN is not set"),
        ({"RELAY_DOMAIN": ""}, "RELAY_DOMAIN is not set"),
        ({"RELAY_DOMAIN": "sigil.example.com"}, "are the same"),
        ({"SIGIL_DOMAIN": "https://sigil.example.com"}, "SIGIL_DOMAIN has a character"),
        ({"SIGIL_DOMAIN": "a; return 200"}, "SIGIL_DOMAIN has a character"),
        ({"SIGIL_DOMAIN": "a.test\nb.test"}, "SIGIL_DOMAIN has a character"),
        ({"SIGIL_UPSTREAM": "https://sigil|x"}, "SIGIL_UPSTREAM has a character"),
        ({"SIGIL_UPSTREAM_CERT": "/a b"}, "SIGIL_UPSTREAM_CERT has a character"),
    ],
)
def test_a_wrong_setting_is_one_line(script: str, changed: dict[str, str], message: str, tmp_path: Path) -> None:
    ran = run(script, **{"NGINX_RUN": str(tmp_path), **GOOD, **changed})
    assert ran.returncode == 1
    (line,) = ran.stderr.splitlines()
    assert message in line


@pytest.mark.parametrize("script", ["nginx/start.sh", "caddy/start.sh"])
def test_a_missing_certificate_is_reported_with_the_next_step(script: str, tmp_path: Path) -> None:
    no_files = {"NGINX_CERTS_DIR": str(tmp_path), "SIGIL_UPSTREAM_CERT": "/nowhere.pem"}
    ran = run(script, **GOOD, **no_files, NGINX_RUN=str(tmp_path), NGINX_VERSION="1.28.0")
    assert ran.returncode == 1
    assert "start.sh: waits for " in ran.stderr
    assert "cannot read " in ran.stderr.splitlines()[-1]
