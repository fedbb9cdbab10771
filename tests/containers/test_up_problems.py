"""`make up` where something is wrong: one clear line that says what to do, and an exit status."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.containers.stack import V1, V2, Host, Stack

SUBNET = "172.31.99"


class Checkout(Stack):
    """With names, ports and a subnet of its own, so that only the subject of a test is wrong."""

    def __init__(self, folder: Path, compose: str | None = V2, *, docker: bool = True) -> None:
        super().__init__(folder / "checkout")
        self.host = Host(folder, compose, docker=docker)

    def up(self, **environ: str) -> str:
        """The line on standard error of a `make up` that fails."""
        return self.fault_of(self.make("up", check=False, **environ))

    def fault_of(self, done: subprocess.CompletedProcess[str]) -> str:
        assert done.returncode != 0, done.stdout
        lines = [line for line in done.stderr.splitlines() if line and not line.startswith("make: ***")]
        assert len(lines) == 1, done.stderr
        return lines[0]

    def __exit__(self, *_: object) -> None:
        self.host = Host(self.folder.parent / "cleaning")
        super().__exit__()


@pytest.fixture
def make_checkout(tmp_path: Path) -> Iterator[Callable[..., Checkout]]:
    with contextlib.ExitStack() as stack:
        yield lambda *arguments, **options: stack.enter_context(Checkout(tmp_path, *arguments, **options))


@pytest.fixture
def checkout(make_checkout: Callable[..., Checkout]) -> Checkout:
    return make_checkout()


def test_without_docker(make_checkout: Callable[..., Checkout]) -> None:
    line = make_checkout(None, docker=False).up()
    assert "docker" in line.lower()
    assert "install" in line.lower()


def test_without_compose(make_checkout: Callable[..., Checkout]) -> None:
    line = make_checkout(None).up()
    assert "ompose" in line
    assert "install" in line.lower()


def test_with_an_old_compose(make_checkout: Callable[..., Checkout]) -> None:
    old = make_checkout(None)
    program = old.host.programs / "docker-compose"
    program.write_text("#!/bin/sh\necho 1.25.0\n")
    program.chmod(0o755)
    line = old.up()
    assert "1.25.0" in line
    assert "1.29" in line


def test_without_a_running_engine(checkout: Checkout, tmp_path: Path) -> None:
    line = checkout.up(DOCKER_HOST=f"unix://{tmp_path}/docker.sock")
    assert "daemon" in line.lower() or "engine" in line.lower()


def test_without_permission_on_the_socket() -> None:
    setpriv = shutil.which("setpriv")
    assert setpriv
    user = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    # pytest's own folders are for its user alone.
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name, socket.socket(socket.AF_UNIX) as engine:
        folder = Path(name)
        folder.chmod(0o755)
        engine.bind(f"{name}/docker.sock")
        (folder / "docker.sock").chmod(0o600)
        checkout = Checkout(folder)
        (checkout.host.programs / "setpriv").symlink_to(setpriv)
        command = [*user, "make", "--no-print-directory", "up"]
        environ = {"DOCKER_HOST": f"unix://{name}/docker.sock"}
        line = checkout.fault_of(checkout.host.run(command, checkout.folder, check=False, **environ))
    assert "permission" in line
    assert "group docker" in line


@pytest.mark.parametrize("variable", ["SIGIL_PORT", "RELAY_PORT"])
def test_with_a_port_that_another_program_has(checkout: Checkout, variable: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        line = checkout.up(**{variable: str(port)})
    assert str(port) in line
    assert variable in line


@pytest.mark.parametrize("compose", [V2, V1])
def test_with_a_subnet_that_another_network_has(
    make_checkout: Callable[..., Checkout], tmp_path: Path, compose: str
) -> None:
    checkout = make_checkout(compose)
    checkout.host.run(["docker", "network", "create", f"--subnet={SUBNET}.0/24", "taken"], tmp_path)
    try:
        line = checkout.up(SIGIL_EDGE_NET=SUBNET)
    finally:
        checkout.host.run(["docker", "network", "rm", "taken"], tmp_path)
    assert SUBNET in line
    assert "SIGIL_EDGE_NET" in line


@pytest.mark.parametrize("compose", [V2, V1])
def test_with_a_network_that_was_made_by_hand(
    make_checkout: Callable[..., Checkout], tmp_path: Path, compose: str
) -> None:
    """As Docker advises, when a proxy is started before the stack."""
    checkout = make_checkout(compose)
    checkout.host.run(["docker", "network", "create", "by-hand"], tmp_path)
    try:
        line = checkout.up(SIGIL_EDGE_NAME="by-hand")
        checkout.make("down", check=False, SIGIL_EDGE_NAME="by-hand")
    finally:
        checkout.host.run(["docker", "network", "rm", "by-hand"], tmp_path, check=False)
    assert "docker network rm by-hand" in line


BAD_LINES = {
    "just some text": "not in the form NAME=value",
    "SIGIL_WORKERS = 2": "not in the form NAME=value",
    "export SIGIL_WORKERS=2": "export is not part of the form",
    "SIGIL_SERVER_NAME='open": "SIGIL_SERVER_NAME has an unpaired single quote",
    "SIGIL_SERVER_NAME='it's'": "SIGIL_SERVER_NAME has an unpaired single quote",
    "SIGIL_SERVER_NAME=costs$5": "put it in single quotes",
    'SIGIL_SERVER_NAME="costs $5"': "use single quotes",
    "SIGIL_SERVER_NAME=it's": "put it in single quotes",
    "SIGIL_SERVER_NAME=a # b": "put it in single quotes",
    "SIGIL_WORKERS=2\r": "carriage return",
}


@pytest.mark.parametrize("compose", [V2, V1])
def test_with_a_bad_line_in_the_env_file(make_checkout: Callable[..., Checkout], compose: str) -> None:
    checkout = make_checkout(compose)
    for text, expected in BAD_LINES.items():
        (checkout.folder / ".env").write_text(f"# a comment\n{text}\n")
        line = checkout.up()
        assert line.startswith(".env line 2: ")
        assert expected in line
        assert "$5" not in line, "a value may be a secret"


def test_with_a_value_that_compose_1_changes_in_single_quotes(make_checkout: Callable[..., Checkout]) -> None:
    checkout = make_checkout(V1)
    for value in ("${HOME}", "a\\\\b"):
        checkout.write_settings(SIGIL_SERVER_NAME=value)
        assert "Compose 1 changes" in checkout.up()


@pytest.mark.parametrize("compose", [V2, V1])
def test_with_a_network_or_a_volume_of_another_stack(make_checkout: Callable[..., Checkout], compose: str) -> None:
    """Compose would share both."""
    checkout = make_checkout(compose)
    label = "--label=com.docker.compose.project=the-other"
    for kind, name, variable in (
        ("network", checkout.settings["SIGIL_EDGE_NAME"], "SIGIL_EDGE_NAME"),
        ("volume", checkout.settings["SIGIL_TLS_VOLUME"], "SIGIL_TLS_VOLUME"),
    ):
        checkout.docker(kind, "create", label, name)
        try:
            line = checkout.up()
        finally:
            checkout.docker(kind, "rm", name)
        assert line.startswith(
            f"{variable}: the {kind} {name} belongs to the project the-other: set COMPOSE_PROJECT_NAME "
        )
