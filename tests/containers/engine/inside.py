"""The first process of the namespaces: starts a network, the engine and the stand-in images, then runs the command."""

from __future__ import annotations

import ctypes
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

from tests.containers.engine import parts
from tests.containers.engine.requirements import DOCKER

STANDINS = parts.ROOT / "tests" / "containers" / "standins"
STANDIN_TAGS = {
    "python": "python:3.13-slim-trixie",
    "busybox": "busybox:1.37",
    "postgres": "postgres:17",
    "nginx": "nginx:1.28",
    "caddy": "caddy:2.10",
    "prometheus": "prom/prometheus:v3.5.0",
}
# Of slirp4netns: its resolver, which forwards to the host's.
RESOLVER = "10.0.2.3"
DEADLINE = 120.0
CLONE_NEWNET = 0x40000000


def main(folder: Path, command: list[str]) -> int:
    begin = time.monotonic()
    start_network(folder)
    environ = start_engine(folder)
    ready = time.monotonic()
    load_images(environ)
    sys.stdout.write(f"engine {ready - begin:.1f} s, images {time.monotonic() - ready:.1f} s\n")
    sys.stdout.flush()
    return run(command, environ)


def start_network(folder: Path) -> None:
    """A network namespace for this process and its children, whose way out is slirp4netns in the host's namespace."""
    outside = os.open("/proc/self/ns/net", os.O_RDONLY)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNET) != 0:
        raise SystemExit(
            f"no network namespace: {os.strerror(ctypes.get_errno())}; the tests need root with CAP_SYS_ADMIN"
        )
    reader, writer = os.pipe()
    options = ["--configure", "--mtu=65520", "--disable-host-loopback", f"--ready-fd={writer}", "--netns-type=path"]
    with (folder / "slirp4netns.log").open("wb") as log:
        subprocess.Popen(
            ["slirp4netns", *options, f"/proc/{os.getpid()}/ns/net", "tap0"],
            pass_fds=[writer],
            stdout=log,
            stderr=log,
            preexec_fn=lambda: libc.setns(outside, CLONE_NEWNET),  # noqa: PLW1509
        )
    os.close(writer)
    if not os.read(reader, 1):
        fail(folder / "slirp4netns.log", "slirp4netns")
    os.close(reader)
    os.close(outside)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    resolver = folder / "resolv.conf"
    resolver.write_text(f"nameserver {RESOLVER}\n")
    subprocess.run(["mount", "--bind", resolver, "/etc/resolv.conf"], check=True)


def start_engine(folder: Path) -> dict[str, str]:
    """The variables by which clients find the engine."""
    endpoint = folder / "docker.sock"
    (folder / "daemon.json").write_text("{}")
    options = {
        "config-file": folder / "daemon.json",
        "data-root": folder / "data",
        "exec-root": folder / "exec",
        "pidfile": folder / "dockerd.pid",
        "host": f"unix://{endpoint}",
        "group": "root",
        "cgroup-parent": f"/{folder.name}",
        "exec-opt": "native.cgroupdriver=cgroupfs",
    }
    with (folder / "dockerd.log").open("wb") as log:
        engine = subprocess.Popen(
            ["dockerd", *(f"--{name}={value}" for name, value in options.items())],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,  # Ctrl-C is for the command
        )
    deadline = time.monotonic() + DEADLINE
    while not answers(endpoint):
        if engine.poll() is not None or time.monotonic() > deadline:
            fail(folder / "dockerd.log", "dockerd")
        time.sleep(0.05)
    config = folder / "docker-config"
    config.mkdir()
    # pytest deletes all but the last three of its folders in /tmp, and other runs on this host count.
    files = folder / "tmp"
    files.mkdir()
    return {
        "DOCKER_HOST": f"unix://{endpoint}",
        "DOCKER_CONFIG": str(config),
        "PYTEST_DEBUG_TEMPROOT": str(files),
        "SIGIL_TEST_ENGINE": "own",
    }


def answers(endpoint: Path) -> bool:
    try:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(DEADLINE)
            client.connect(str(endpoint))
            client.sendall(b"GET /_ping HTTP/1.0\r\n\r\n")
            return b" 200 " in client.recv(64)
    except OSError:
        return False


def fail(log: Path, program: str) -> None:
    last = "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-15:])
    raise SystemExit(f"{last}\n{program} did not start; its last lines are above")


def load_images(environ: dict[str, str]) -> None:
    choice = os.environ.get("IMAGES", "standins")
    if choice == "official":
        for tag in STANDIN_TAGS.values():
            docker(environ, "pull", "--quiet", tag)
    if choice != "standins":
        return
    docker(environ, "import", str(parts.rootfs()), "sigil-standins")
    for target, tag in STANDIN_TAGS.items():
        docker(environ, "build", "--quiet", "--network=none", f"--target={target}", f"--tag={tag}", str(STANDINS))


def docker(environ: dict[str, str], *arguments: str) -> None:
    done = subprocess.run(
        [DOCKER, *arguments], env=os.environ | environ, check=False, capture_output=True, text=True, timeout=600
    )
    if done.returncode != 0:
        raise SystemExit(f"{done.stdout}{done.stderr}docker {arguments[0]} failed; its output is above")


def run(command: list[str], environ: dict[str, str]) -> int:
    """Runs the command. Orphans of containerd become children of this process, which ends them in the process table."""
    child = os.fork()
    if child == 0:
        try:
            os.execvpe(command[0], command, os.environ | environ)  # noqa: S606
        except OSError as error:
            sys.stderr.write(f"{command[0]}: {error.strerror}\n")
            sys.stderr.flush()
            os._exit(127)
    while True:
        try:
            pid, status = os.wait()
        except KeyboardInterrupt:
            continue
        if pid == child:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
