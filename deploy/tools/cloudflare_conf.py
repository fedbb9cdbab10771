"""Writes deploy/nginx/cloudflare.conf from the ranges in the server: `python -m deploy.tools.cloudflare_conf`."""

from __future__ import annotations

import sys
from pathlib import Path

from sigil.serving.cloudflare.ranges import EMBEDDED

FILE = Path(__file__).resolve().parent.parent / "nginx" / "cloudflare.conf"
_COMMENT = """\
# Cloudflare's address ranges at the time of the release. Written by deploy/tools/cloudflare_conf.py; do not edit.
# A request from one of them has the client in CF-Connecting-IP, which becomes $remote_addr. From any other address the
# header is a client's invention, and nginx ignores it.
"""


def text() -> str:
    lines = [f"set_real_ip_from {network};" for network in EMBEDDED]
    return _COMMENT + "\n".join([*lines, "real_ip_header CF-Connecting-IP;"]) + "\n"


def main() -> int:
    FILE.write_text(text(), encoding="ascii")
    return 0


if __name__ == "__main__":
    sys.exit(main())
