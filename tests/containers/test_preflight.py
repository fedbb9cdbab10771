"""`make preflight` on a host: bad input gives one line that says what to do, and nothing is started."""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.containers.production import Production
from tests.containers.stack import V1, V2


@pytest.fixture(params=[V1, V2])
def stack(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Production]:
    with Production(tmp_path, request.param) as one:
        yield one
        assert one.find("sigil") is None, "a preflight starts nothing"


def failures(stack: Production, **environ: str) -> list[str]:
    """The failed lines of a preflight that ends with an error."""
    done = stack.make("preflight", check=False, **environ)
    assert done.returncode != 0, done.stdout
    assert "Preflight failed" in done.stderr
    return [line.removeprefix("failed  ") for line in done.stdout.splitlines() if line.startswith("failed")]


def test_the_mnemonic_file_with_another_owner_or_mode(stack: Production) -> None:
    remedy = f"sudo chown 10001 {stack.mnemonic} && sudo chmod 600 {stack.mnemonic}"
    for owner, mode in ((0, 0o600), (10001, 0o644)):
        os.chown(stack.mnemonic, owner, owner)
        stack.mnemonic.chmod(mode)
        (line,) = failures(stack)
        assert f"has owner {owner} and mode" in line
        assert remedy in line


def test_a_missing_mnemonic_file_and_the_directory_that_docker_makes_of_it(stack: Production) -> None:
    stack.mnemonic.unlink()
    (line,) = failures(stack)
    assert f"{stack.mnemonic} does not exist; create it" in line
    stack.mnemonic.mkdir()
    (line,) = failures(stack)
    assert "is a directory" in line
    assert "rmdir" in line


def test_a_value_with_a_dollar_or_quotes_is_named_by_its_line_and_never_printed(stack: Production) -> None:
    settings = (stack.folder / ".env").read_text(encoding="utf-8")
    first = len(settings.splitlines()) + 1
    secret = secrets.token_hex(16)
    lines = [
        f"SIGIL_SERVER_NAME=a$b{secret}",
        f'SIGIL_SERVER_NAME="{secret}"',
        f"SIGIL_SERVER_NAME=it's{secret}",
        f"SIGIL_SERVER_NAME='{secret}",
        f"SIGIL_SERVER_NAME={secret} # a comment",
        f"export SIGIL_SERVER_NAME={secret}",
        f"SIGIL_MNEMONIC='{secret}'",
        f"SIGIL_SERVER_NAME='a $b \"{secret}\" #'",
    ]
    (stack.folder / ".env").write_text(settings + "\n".join(lines) + "\n", encoding="utf-8")
    done = stack.make("preflight", check=False)
    found = [line for line in done.stdout.splitlines() if line.startswith("failed  .env line")]
    assert [line.split(":")[0].rpartition(" ")[2] for line in found] == [str(first + n) for n in range(7)]
    assert "put it in single quotes" in found[0]
    assert secret not in done.stdout + done.stderr


def test_a_setting_that_production_requires(stack: Production) -> None:
    stack.write_settings(SIGIL_PUBLIC_URL="")
    (line,) = failures(stack)
    assert line == "settings: set SIGIL_PUBLIC_URL in .env to the https address of the server for devices and backends"


def test_production_needs_a_choice_about_attestation(stack: Production) -> None:
    stack.write_settings(SIGIL_ATTESTATION_REQUIRED="")
    (line,) = failures(stack)
    assert line.startswith("settings: set SIGIL_ATTESTATION_REQUIRED in .env to true (only devices that prove a key")


def test_a_port_that_another_program_has(stack: Production) -> None:
    with socket.create_server(("127.0.0.1", stack.port)):
        (line,) = failures(stack)
    assert line == f"SIGIL_PORT: port {stack.port} is taken by another program; stop it, or set SIGIL_PORT in .env"


def test_the_gateway_as_proxy_of_a_port_that_other_hosts_reach(stack: Production) -> None:
    stack.write_settings(TRUSTED_PROXY_IP=f"{stack.subnet}.1", SIGIL_BIND="0.0.0.0")
    (line,) = failures(stack)
    assert line.startswith("TRUSTED_PROXY_IP: is the gateway")


@pytest.mark.parametrize("taken", ["{subnet}.0/24", "{subnet}.128/25", "{subnet}.0/23"])
def test_a_subnet_that_another_network_has(stack: Production, taken: str) -> None:
    name = f"taken-{secrets.token_hex(4)}"
    stack.docker("network", "create", "--subnet", taken.format(subnet=stack.subnet), name)
    try:
        (line,) = failures(stack)
    finally:
        stack.docker("network", "rm", name)
    assert f"{stack.subnet}.0/24 is taken by the network {name}; set SIGIL_EDGE_NET" in line


def test_a_directory_of_the_settings_that_is_missing(stack: Production) -> None:
    stack.write_settings(SIGIL_CONFIG_DIR=f"{stack.folder}/none")
    (line,) = failures(stack)
    assert line.startswith(f"SIGIL_CONFIG_DIR: {stack.folder}/none does not exist; create it")


def test_a_database_that_the_operator_publishes_and_a_service_without_a_limit(stack: Production) -> None:
    own = "services:\n  postgres:\n    ports: ['127.0.0.1:5432:5432']\n  other:\n    image: busybox:1.37\n"
    (stack.folder / "own.yml").write_text(own, encoding="utf-8")
    stack.files = ("docker-compose.yml", "docker-compose.prod.yml", "own.yml")
    database, limits = failures(stack)
    assert database.startswith("database: its port is published")
    assert limits.startswith("resource_limits: no mem_limit: other")


def test_a_check_in_the_container_that_fails(stack: Production) -> None:
    """Compose adds messages of its own about the container, and Compose 1 its exit code."""
    stack.write_settings(TLS_AUTO_GENERATE="false")
    done = stack.make("preflight", check=False)
    assert [line for line in done.stdout.splitlines() if line.startswith("failed  certificate: ")]
    first, last = done.stderr.splitlines()
    assert first == "Preflight failed: correct the lines that begin with 'failed'"
    assert last.startswith("make: ***")
