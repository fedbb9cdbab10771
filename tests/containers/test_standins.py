"""The stand-in images keep the documented contract of the official images that the stack uses."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.containers.stack import Host
from tests.support.live import wait_until

POSTGRES = "postgres:17"
LIMITS = ["--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges", "--init"]
POSTGRES_LIMITS = [
    *LIMITS,
    *(f"--cap-add={name}" for name in ("CHOWN", "DAC_OVERRIDE", "FOWNER", "SETGID", "SETUID")),
    "--tmpfs=/var/run/postgresql",
    "--tmpfs=/tmp",
]


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Host:
    return Host(tmp_path_factory.mktemp("host"))


@pytest.fixture
def run(host: Host, tmp_path: Path) -> Iterator[Callable[..., str]]:
    """`docker run --detach` with options; all containers and volumes of the test are removed after it."""
    started = []

    def start(*arguments: str) -> str:
        started.append(host.run(["docker", "run", "--detach", *arguments], tmp_path).stdout.strip())
        return started[-1]

    yield start
    if started:
        host.run(["docker", "rm", "--force", "--volumes", *started], tmp_path)


def wait_ready(host: Host, container: str) -> None:
    ready = ["docker", "exec", container, "pg_isready", "--host=127.0.0.1"]
    wait_until(lambda: host.run(ready, Path("/"), check=False).returncode == 0, "PostgreSQL to accept connections")


def test_postgres_makes_user_database_and_runs_scripts_once_and_keeps_them(
    host: Host, run: Callable[..., str], tmp_path: Path
) -> None:
    scripts, password = tmp_path / "scripts", tmp_path / "password"
    scripts.mkdir()
    (scripts / "table.sql").write_text("CREATE TABLE made (id int); INSERT INTO made VALUES (7);")
    password.write_text(secrets.token_hex())
    password.chmod(0o400)
    os.chown(password, 10001, 10001)
    volume = f"standin-{secrets.token_hex(4)}"
    options = [
        *POSTGRES_LIMITS,
        f"--volume={volume}:/var/lib/postgresql/data",
        f"--volume={scripts}:/docker-entrypoint-initdb.d:ro",
        f"--volume={password}:/run/password:ro",
        *("--env=POSTGRES_USER=relay", "--env=POSTGRES_DB=pushes", "--env=POSTGRES_PASSWORD_FILE=/run/password"),
    ]
    query = (
        'PGPASSWORD=$(cat /run/password) psql -h 127.0.0.1 -U relay -d pushes -Atc "SELECT id, current_user FROM made"'
    )
    try:
        for _ in range(2):
            container = run(*options, POSTGRES)
            wait_ready(host, container)
            assert host.run(["docker", "exec", container, "sh", "-c", query], tmp_path).stdout == "7|relay\n"
            owner = host.run(["docker", "top", container, "-o", "pid,uid,args"], tmp_path).stdout
            assert "999" in owner
            wrong = query.replace("$(cat /run/password)", "wrong").replace("127.0.0.1", "$(hostname -i)")
            refused = host.run(["docker", "exec", container, "sh", "-c", wrong], tmp_path, check=False)
            assert "password authentication failed" in refused.stderr
            host.run(["docker", "stop", container], tmp_path)
            host.run(["docker", "rm", container], tmp_path)
    finally:
        host.run(["docker", "volume", "rm", "--force", volume], tmp_path)


def test_postgres_without_a_password_says_which_variable_to_set(host: Host, tmp_path: Path) -> None:
    done = host.run(["docker", "run", "--rm", *POSTGRES_LIMITS, POSTGRES], tmp_path, check=False)
    assert done.returncode != 0
    assert "POSTGRES_PASSWORD" in done.stderr


def test_nginx_fills_templates_with_variables_that_are_set_and_leaves_its_own(
    host: Host, run: Callable[..., str], tmp_path: Path
) -> None:
    (tmp_path / "site.conf.template").write_text(
        'server { listen ${PORT}; location / { return 200 "${PORT} $request_method\\n"; } }'
    )
    container = run("--env=PORT=8081", f"--volume={tmp_path}:/etc/nginx/templates:ro", "nginx:1.28")
    fetch = ["docker", "exec", container, "python3", "-c"]
    program = "from urllib.request import urlopen; print(urlopen('http://127.0.0.1:8081/').read().decode(), end='')"
    wait_until(lambda: host.run([*fetch, program], tmp_path, check=False).stdout == "8081 GET\n", "nginx to answer")
    assert "101" in host.run(["docker", "top", container, "-o", "pid,uid,args"], tmp_path).stdout


def test_caddy_serves_its_caddyfile(host: Host, run: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "Caddyfile").write_text(":8081\nrespond hello\n")
    container = run(f"--volume={tmp_path}/Caddyfile:/etc/caddy/Caddyfile:ro", "caddy:2.10")
    fetch = ["docker", "exec", container, "python3", "-c"]
    program = "from urllib.request import urlopen; print(urlopen('http://127.0.0.1:8081/').read().decode())"
    wait_until(lambda: "hello" in host.run([*fetch, program], tmp_path, check=False).stdout, "Caddy to answer")


def test_images_have_no_package_lists_and_no_secrets_in_their_settings(host: Host, tmp_path: Path) -> None:
    for tag in (POSTGRES, "nginx:1.28", "caddy:2.10", "python:3.13-slim-trixie"):
        listed = [
            "docker",
            "run",
            "--rm",
            "--entrypoint=sh",
            tag,
            "-c",
            "ls /var/lib/apt/lists /var/cache/apt/archives",
        ]
        names = set(host.run(listed, tmp_path).stdout.split())
        assert names <= {"/var/lib/apt/lists:", "/var/cache/apt/archives:", "lock", "partial"}, tag
