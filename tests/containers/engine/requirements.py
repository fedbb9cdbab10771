"""What the engine needs of the host. Programs have their paths of Debian: another client may precede them in PATH."""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path

DOCKER = "/usr/bin/docker"
PROGRAMS = {
    DOCKER: "docker.io",
    "/usr/sbin/dockerd": "docker.io",
    "/usr/bin/docker-compose": "docker-compose",
    "/usr/bin/mmdebstrap": "mmdebstrap",
    "/usr/bin/slirp4netns": "slirp4netns",
    "/usr/sbin/iptables": "iptables",
    "/usr/bin/ip": "iproute2",
}
"""Program and Debian package; `make test-docker-deps` installs them."""


def problem() -> str | None:
    """One line that says what is missing and what to do."""
    if platform.system() != "Linux":
        return "it runs on Linux alone; use a virtual machine with Debian"
    missing = sorted({package for program, package in PROGRAMS.items() if not os.access(program, os.X_OK)})
    if missing:
        return f"missing: {' '.join(missing)}; as root on Debian, run: make test-docker-deps"
    if os.geteuid() != 0:
        return "a Docker engine needs root; run: sudo make test-docker"
    if not Path("/etc/debian_version").exists():
        return "the stand-in images are made by Debian's apt; use Debian 12 or newer"
    return None


if __name__ == "__main__":
    sys.exit(problem())
