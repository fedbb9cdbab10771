"""The SDK needs the base install only: none of the packages of the server or the command line."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in BLOCKED or name in OURS:
            raise ModuleNotFoundError(f"{name} is not installed")

BLOCKED = {"click", "falcon", "lmdb", "granian", "mnemonic", "uvloop", "prometheus_client", "h2", "pytest", "segno"}
OURS = {f"sigil.{part}" for part in ("app", "cli", "config", "core", "device", "serving", "sessions", "store")}
sys.meta_path.insert(0, Absent())
import sigil.sdk
sigil.sdk.SigilAuth("https://localhost:8443", tls_pin="00" * 32).close()
sigil.sdk.SigilAuth("https://localhost:8443").close()
print("made")
"""


def test_the_sdk_needs_the_base_install_only() -> None:
    environ = {"SIGIL_API_KEY": "sgk_test_" + "0" * 64, "PATH": ""}
    ran = subprocess.run([sys.executable, "-c", PROGRAM], env=environ, capture_output=True, text=True, check=False)
    assert (ran.stdout, ran.stderr) == ("made\n", "")
