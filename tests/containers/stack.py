"""A stack of containers for tests: a copy of the checkout, its `.env`, and the commands an operator runs there."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import secrets
import shutil
import signal
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx

from tests.containers.engine import parts
from tests.containers.engine.requirements import DOCKER
from tests.support import openapi
from tests.support.live import DEADLINE, wait_until
from tests.support.ports import free_port

V1, V2 = "1.29.2", "2.26.1"
"""The versions of Compose: Debian 12's and Debian 13's."""
COMMAND_SECONDS = 300
# A host needs docker, Compose, make and a POSIX shell with its utilities: no Python, no curl, no bash, no git.
_UTILITIES = """
    awk basename cat chmod chown cmp comm cp cut date df dirname du echo env expr false find getconf grep head id
    kill ln ls make mkdir mktemp mv nl od paste printenv printf ps pwd rm rmdir sed sh sleep sort stat tail tar tee
    test touch tr true tty uname uniq wc xargs
""".split()
# Every second one: a test takes the /23 of a stack, without a part of another stack.
_subnets = itertools.count(step=2)


class Host:
    """The programs and variables of a machine with one version of Compose and nothing else."""

    def __init__(self, folder: Path, compose: str | None = V2, *, docker: bool = True) -> None:
        self.compose_version = compose
        self.programs = folder / "bin"
        self.home = folder / "home"
        config = self.home / ".docker"
        config.mkdir(parents=True)
        self.programs.mkdir()
        for name in _UTILITIES:
            if path := shutil.which(name, path="/usr/bin:/bin"):
                (self.programs / name).symlink_to(path)
        if docker:
            (self.programs / "docker").symlink_to(DOCKER)
        if compose == V1:
            (self.programs / "docker-compose").symlink_to("/usr/bin/docker-compose")
        if compose == V2:
            (config / "cli-plugins").mkdir()
            (config / "cli-plugins" / "docker-compose").symlink_to(parts.compose_2())
        self.environ = {
            "PATH": str(self.programs),
            "HOME": str(self.home),
            "LANG": "C.UTF-8",
            "DOCKER_CONFIG": str(config),
            "DOCKER_HOST": os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock"),
        }

    def run(
        self, command: list[str], folder: Path, *, check: bool = True, stdin: str | None = None, **environ: str
    ) -> subprocess.CompletedProcess[str]:
        """Both outputs are text. AssertionError with them if the command fails, unless `check` is false."""
        done = subprocess.run(
            [shutil.which(command[0], path=self.environ["PATH"]) or command[0], *command[1:]],
            cwd=folder,
            env=self.environ | environ,
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS,
            check=False,
        )
        assert not check or done.returncode == 0, f"{command} exited with {done.returncode}\n{done.stdout}{done.stderr}"
        return done

    @contextlib.contextmanager
    def running(self, command: list[str], folder: Path) -> Iterator[Path]:
        """A command that does not end by itself, and the file with its output; it is ended after the block."""
        output = self.home / "output"
        with output.open("wb") as file:
            process = subprocess.Popen(
                [shutil.which(command[0], path=self.environ["PATH"]) or command[0], *command[1:]],
                cwd=folder,
                env=self.environ,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            yield output
        finally:
            # Not SIGINT: a run in the background of a shell ignores it, and so does all that it starts.
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(DEADLINE)


class Stack:
    """`with Stack(tmp_path) as stack: stack.make("up")`. Its ports, subnet, project and volumes are its own, unless
    `default_names`; `settings` are lines of its `.env`, written in single quotes. Leaving it removes everything.

    `files`: the compose files, of `make` (COMPOSE_FILE) and of `compose`; None leaves the choice to the Makefile.
    """

    def __init__(
        self,
        folder: Path,
        compose: str = V2,
        *,
        default_names: bool = False,
        files: tuple[str, ...] | None = None,
        **settings: str,
    ) -> None:
        self.folder = folder / "server"
        self.host = Host(folder, compose)
        self.files = files
        copy_checkout(self.folder)
        self.project = "server"
        self.port, self.relay_port, self.subnet = 8443, 8080, "172.30.53"
        own = {}
        if not default_names:
            self.project = f"sigil-test-{secrets.token_hex(4)}"
            self.port, self.relay_port = free_port(), free_port()
            self.subnet = f"172.31.{100 + next(_subnets)}"
            own = {
                "COMPOSE_PROJECT_NAME": self.project,
                "SIGIL_EDGE_NAME": f"{self.project}-edge",
                "SIGIL_EDGE_NET": self.subnet,
                "SIGIL_TLS_VOLUME": f"{self.project}-tls",
                "SIGIL_PORT": str(self.port),
                "RELAY_PORT": str(self.relay_port),
                "RELAY_PUBLIC_URL": f"http://localhost:{self.relay_port}",
            }
        self.settings = own | settings
        self.url = f"https://localhost:{self.port}"
        self.relay_url = f"http://localhost:{self.relay_port}"
        self.api_key = ""
        self.write_settings()

    def write_settings(self, **changed: str) -> None:
        """Writes `.env`; the containers have it after the next `up`."""
        self.settings |= changed
        lines = [f"{name}='{value}'\n" for name, value in self.settings.items()]
        (self.folder / ".env").write_text("".join(lines), encoding="utf-8")

    def __enter__(self) -> Stack:
        return self

    def __exit__(self, *_: object) -> None:
        for what, remove in (
            ("container", ("rm", "--force", "--volumes")),
            ("network", ("rm",)),
            ("volume", ("rm", "--force")),
        ):
            every = ("--all",) if what == "container" else ()
            found = self.docker(what, "ls", "--quiet", *every, "--filter", self._label()).stdout.split()
            if found:
                self.docker(what, *remove, *found)

    def _label(self, service: str = "") -> str:
        return (
            f"label=com.docker.compose.service={service}"
            if service
            else f"label=com.docker.compose.project={self.project}"
        )

    # Commands

    def make(
        self, target: str, *arguments: str, check: bool = True, **environ: str
    ) -> subprocess.CompletedProcess[str]:
        """`make TARGET` as an operator runs it."""
        files = {"COMPOSE_FILE": ":".join(self.files)} if self.files else {}
        return self.host.run(
            ["make", "--no-print-directory", target, *arguments], self.folder, check=check, **files, **environ
        )

    def compose(self, *arguments: str, check: bool = True, **environ: str) -> subprocess.CompletedProcess[str]:
        program = ["docker", "compose"] if self.host.compose_version == V2 else ["docker-compose"]
        files = {"COMPOSE_FILE": ":".join(self.files)} if self.files else {}
        return self.host.run([*program, *arguments], self.folder, check=check, **files, **environ)

    def docker(self, *arguments: str, check: bool = True, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        return self.host.run(["docker", *arguments], self.folder, check=check, stdin=stdin)

    def exec(
        self, service: str, *command: str, user: str = "", check: bool = True, stdin: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Runs a command in the container of a service."""
        options = [*(["--user", user] if user else []), *(["--interactive"] if stdin is not None else [])]
        return self.docker("exec", *options, self.container(service), *command, check=check, stdin=stdin)

    # Containers

    def find(self, service: str) -> str | None:
        """The id of the container of a service, running or not."""
        options = ("--no-trunc", "--filter", self._label(), "--filter", self._label(service))
        found = self.docker("ps", "--all", "--quiet", *options).stdout.split()
        return found[0] if found else None

    def container(self, service: str) -> str:
        found = self.find(service)
        assert found, f"no container of {service}"
        return found

    def inspect(self, service: str) -> dict[str, Any]:
        """`docker inspect` of the container of a service."""
        (found,) = json.loads(self.docker("inspect", self.container(service)).stdout)
        inspected: dict[str, Any] = found
        return inspected

    def image(self, service: str) -> dict[str, Any]:
        """`docker image inspect` of a service's image."""
        (found,) = json.loads(self.docker("image", "inspect", self.inspect(service)["Image"]).stdout)
        inspected: dict[str, Any] = found
        return inspected

    def health(self, service: str) -> str:
        """`healthy`, `unhealthy`, `starting`; `none` without a health check or a container."""
        if (found := self.find(service)) is None:
            return "none"
        form = "{{if .State.Health}}{{.State.Health.Status}}{{else}}none{{end}}"
        return self.docker("inspect", "--format", form, found, check=False).stdout.strip() or "none"

    def wait_healthy(self, *services: str) -> None:
        for service in services or ("sigil", "relay", "postgres"):
            wait_until(lambda service=service: self.health(service) == "healthy", f"a healthy {service}")  # type: ignore[misc]

    def logs(self, service: str) -> str:
        """Everything the container of a service wrote, in order."""
        return self.host.run(["sh", "-c", 'docker logs "$1" 2>&1', "sh", self.container(service)], self.folder).stdout

    def events(self, service: str, name: str) -> list[dict[str, Any]]:
        """The log lines of one event of the server or the relay."""
        lines = []
        for line in self.logs(service).splitlines():
            with contextlib.suppress(ValueError):
                lines.append(json.loads(line))
        return [line for line in lines if isinstance(line, dict) and line.get("event") == name]

    def processes(self, service: str) -> dict[int, str]:
        """Process ids as the test sees them, and command lines, of all processes in the container."""
        rows = self.docker("top", self.container(service), "-o", "pid,args").stdout.splitlines()[1:]
        return {int(pid): args for pid, args in (row.split(maxsplit=1) for row in rows)}

    def address(self, service: str, network: str = "edge") -> str:
        """The IP address of a container; `network` is a name in the compose file, or of Docker."""
        networks = self.inspect(service)["NetworkSettings"]["Networks"]
        return str(next(found["IPAddress"] for name, found in networks.items() if name.endswith(network)))

    # The server

    def certificate(self) -> Path:
        """A copy of the server's certificate, taken now."""
        copy = self.folder.parent / "cert.pem"
        copy.write_text(self.exec("sigil", "cat", "/var/lib/sigil/tls/cert.pem").stdout, encoding="ascii")
        return copy

    def tls(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.certificate()))

    def client(self, url: str | None = None, **options: Any) -> httpx.Client:
        """Of the server, without API key: it verifies the certificate, and responses against the OpenAPI document."""
        hooks = {"response": [openapi.check]}
        return httpx.Client(
            base_url=url or self.url, verify=self.tls(), trust_env=False, timeout=DEADLINE, event_hooks=hooks, **options
        )

    def authorised(self, **options: Any) -> httpx.Client:
        """With `api_key`; tests.flows.backend.Backend takes a stack as its server."""
        return self.client(headers={"Authorization": f"Bearer {self.api_key}"}, **options)

    def relay_client(self, **options: Any) -> httpx.Client:
        return httpx.Client(base_url=self.relay_url, trust_env=False, timeout=DEADLINE, **options)

    def wait_answering(self) -> None:
        """Until the server answers /health with 200 through its published port."""

        def answers() -> bool:
            with contextlib.suppress(httpx.HTTPError, OSError, AssertionError, ssl.SSLError), self.client() as client:
                return client.get("/health").status_code == 200
            return False

        wait_until(answers, f"the server to answer on {self.url}")


def copy_checkout(folder: Path) -> None:
    """The files that git would commit, without `.git`: what a release contains."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=parts.ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        source = parts.ROOT / name
        if source.is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, folder / name)
