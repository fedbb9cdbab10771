"""A tiny service in a subprocess, its log as a list of events, and polling for conditions."""

import datetime
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.support.ports import free_port

ROOT = Path(__file__).parents[2]


def eventually(condition: Callable[[], Any], what: str, seconds: float = 180) -> Any:
    """Wait until the condition returns a true value, and return it; connection errors count as false."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if found := condition():
                return found
        except (httpx.TransportError, OSError):
            pass
        time.sleep(0.02)
    raise AssertionError(f"not within {seconds} s: {what}")


def alive(pid: int) -> bool:
    """False also for a zombie: it is not reaped when PID 1 does not reap orphans."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] not in "ZX"
    except OSError:
        return False


def write_pair(folder: Path, name: str, valid: tuple[datetime.datetime, datetime.datetime] | None = None) -> Path:
    """A folder with cert.pem and key.pem for 127.0.0.1, issued to `name`; `valid` for a day by default."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
    begins, ends = valid or (now, now + datetime.timedelta(days=1))
    cert = builder.not_valid_before(begins).not_valid_after(ends).sign(key, hashes.SHA256())
    folder.mkdir()
    (folder / "cert.pem").write_bytes(cert.public_bytes(serialization.Encoding.PEM))
    pkcs8, plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    (folder / "key.pem").write_bytes(key.private_bytes(serialization.Encoding.PEM, pkcs8, plain))
    return folder


class Running:
    """One server process, which may open `descriptors` files; `options` go to tiny_service.main. `stdout` and `stderr`
    are descriptors, else a file. `setup` is a shell command that runs before it, `inherit` a function that runs in its
    process.
    """

    def __init__(
        self,
        folder: Path,
        descriptors: int | None = None,
        *,
        stdout: int | None = None,
        stderr: int | None = None,
        setup: str = "",
        inherit: Callable[[], None] | None = None,
        **options: Any,
    ) -> None:
        self.folder = folder
        self.state_dir = folder / f"state-{time.monotonic_ns()}"
        self.settings_file = folder / "settings.json"
        if not self.settings_file.exists():
            self.configure({})
        self.port = options.setdefault("port", free_port())
        self.tls = "tls" in options
        options |= {"state_dir": str(self.state_dir), "settings": str(self.settings_file)}
        self.log_file = folder / f"log-{self.state_dir.name}"
        with self.log_file.open("wb") as log:
            command = [sys.executable, "-m", "tests.serving.tiny_service", json.dumps(options)]
            if descriptors is not None:
                setup = f"ulimit -n {descriptors}"
            if setup:
                command = ["sh", "-c", f'{setup} && exec "$@"', "sh", *command]
            # Its own process group, so that a test can send the signal of Ctrl-C to the group.
            out, errors = log if stdout is None else stdout, log if stderr is None else stderr
            self.process = subprocess.Popen(
                command,
                cwd=ROOT,
                stdout=out,
                stderr=errors,
                process_group=0,
                preexec_fn=inherit,  # noqa: PLW1509 - tests have no threads here
            )
        self.workers = options.get("workers", 2)

    def __enter__(self) -> "Running":
        return self

    def __exit__(self, failure: object, *_: object) -> None:
        if failure:
            print(self.text)  # noqa: T201 - pytest shows it with the failed test
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    def configure(self, settings: dict[str, Any]) -> None:
        self.settings_file.write_text(json.dumps(settings))

    @property
    def pids(self) -> set[int]:
        folder = self.state_dir / "workers"
        return {int(path.name) for path in folder.iterdir()} if folder.exists() else set()

    @property
    def spawned(self) -> set[int]:
        """All processes that the master started and that are alive (the resource tracker of spawn among them)."""
        path = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return {int(pid) for pid in path.read_text().split()}

    def ready(self) -> set[int]:
        def full() -> set[int] | None:
            assert self.process.poll() is None, self.text
            pids = self.pids
            return pids if len(pids) == self.workers and all(map(alive, pids)) else None

        return eventually(full, f"{self.workers} ready workers")  # type: ignore[no-any-return]

    @property
    def text(self) -> str:
        return self.log_file.read_text()

    def events(self, name: str) -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in self.text.splitlines(keepends=True) if line.endswith("\n")]
        return [line for line in lines if line["event"] == name]

    def send(self, number: int) -> None:
        os.kill(self.process.pid, number)

    def stopped(self) -> int:
        """The exit code; the long timeout is for slow machines."""
        return self.process.wait(180)

    def terminate(self, number: int = signal.SIGTERM) -> int:
        self.send(number)
        return self.stopped()

    def url(self, path: str = "/") -> str:
        return f"http{'s' if self.tls else ''}://127.0.0.1:{self.port}{path}"

    def get(self, path: str = "/", **options: Any) -> httpx.Response:
        with self.client(**options) as client:
            return client.get(self.url(path))

    def client(self, **options: Any) -> httpx.Client:
        return httpx.Client(verify=False, trust_env=False, **{"timeout": 120, **options})  # noqa: S501
