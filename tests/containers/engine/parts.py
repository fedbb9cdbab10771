"""Files that are made once and kept in a git-ignored folder of the checkout: the root file system of the stand-in
images, and Debian trixie's Compose 2. Both come from the mirror that this machine's apt uses; its keys verify them."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
FOLDER = ROOT / ".engine"
SUITE = "trixie"
PACKAGES = "busybox-static,ca-certificates,caddy,gettext-base,nginx-light,openssl,postgresql-17,python3,python3-venv"
FETCHED = ("docker-compose", "prometheus")
# The official images have these uids and gids; Debian's packages take the next free ones.
USERS = {"postgres": (999, "/var/lib/postgresql", "/bin/bash"), "nginx": (101, "/nonexistent", "/bin/false")}
CA_FILE = Path("/etc/ssl/certs/ca-certificates.crt")
PIP_CONF = Path("/etc/pip.conf")
_RECIPE = 3
"""Raise it when the commands below change."""


def rootfs() -> Path:
    """A tar file of trixie with all programs of the stand-ins."""
    return made() / "rootfs.tar"


def compose_2() -> Path:
    """The program of Compose 2."""
    return made() / "docker-compose"


def made() -> Path:
    """The folder of both files, which are made if they are missing."""
    certificates = hashlib.sha256(CA_FILE.read_bytes()).hexdigest() if CA_FILE.exists() else ""
    key = hashlib.sha256(f"{_RECIPE} {SUITE} {PACKAGES} {certificates}".encode()).hexdigest()[:16]
    folder = FOLDER / key
    if not folder.exists():
        sys.stderr.write(f"{FOLDER} is made of Debian's packages, once: two to five minutes\n")
        shutil.rmtree(FOLDER, ignore_errors=True)
        FOLDER.mkdir()
        with tempfile.TemporaryDirectory(dir=FOLDER) as made:
            _make(Path(made))
            # Appears whole: an interrupted run leaves nothing that the next one takes for complete.
            (Path(made) / "done").rename(folder)
    return folder


def _make(folder: Path) -> None:
    done, package = folder / "done", folder / "package"
    done.mkdir()
    package.mkdir()
    hooks = [
        f"--essential-hook=cd $1/etc; echo {name}:x:{uid}:{uid}::{home}:{shell} >>passwd; echo {name}:x:{uid}: >>group"
        for name, (uid, home, shell) in USERS.items()
    ]
    hooks += [
        # These packages are only fetched, not installed: their verified files are unpacked. Compose stays outside of
        # the images; the stand-in of Prometheus needs its program alone, not the packages of its web pages.
        f"--customize-hook=cd {package} && APT_CONFIG=$MMDEBSTRAP_APT_CONFIG apt-get -q download {' '.join(FETCHED)}",
        f"--customize-hook=dpkg-deb --fsys-tarfile {package}/prometheus_*.deb | tar -x -C $1 ./usr/bin/prometheus",
        "--customize-hook=rm -rf $1/var/lib/postgresql/17 $1/usr/share/doc/* $1/usr/share/man/*",
    ]
    # Downloads of packages in a build go through the machine's network, whose proxy may have a certificate of its own.
    hooks += [
        f"--customize-hook=mkdir -p $1{file.parent} && cp {file} $1{file}"
        for file in (CA_FILE, PIP_CONF)
        if file.exists()
    ]
    command = ["mmdebstrap", "--quiet", "--variant=minbase", f"--include={PACKAGES}", *hooks, SUITE]
    _run([*command, str(done / "rootfs.tar"), f"deb {mirror()} {SUITE} main"])
    (deb,) = package.glob("docker-compose_*.deb")
    _run(["dpkg-deb", "--extract", str(deb), str(package / "files")])
    (program,) = (package / "files").glob("usr/libexec/docker/cli-plugins/docker-compose")
    program.rename(done / "docker-compose")


def mirror() -> str:
    """Where this machine's apt gets Debian itself from."""
    release = dict(
        line.split("=", 1) for line in Path("/etc/os-release").read_text(encoding="utf-8").splitlines() if "=" in line
    )
    columns = [
        "apt-get",
        "indextargets",
        "--format",
        "$(CODENAME) $(REPO_URI)",
        "Created-By: Packages",
        "Component: main",
    ]
    lines = subprocess.run(columns, check=True, capture_output=True, text=True).stdout.splitlines()
    uris = [
        uri for codename, _, uri in (line.partition(" ") for line in lines) if codename == release["VERSION_CODENAME"]
    ]
    if not uris:
        raise SystemExit("apt knows no package list of Debian; run: apt-get update")
    return uris[0]


def _run(command: list[str]) -> None:
    done = subprocess.run(command, check=False, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode != 0:
        last = "\n".join(done.stderr.splitlines()[-15:])
        raise SystemExit(f"{last}\n{command[0]} failed; its last lines are above")
