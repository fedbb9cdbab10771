"""Where words and secrets are after a first boot: with the person, in memory, and in one file."""

from __future__ import annotations

import base64
import contextlib
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from sigil.device import Device
from sigil.protocol.identity import DerivedSecrets, generate_mnemonic
from sigil.serving.process.memory_protection import active_swap_devices
from tests.first_boot.newborn import Newborn
from tests.flows.people import ACTION


def traces(words: str, secrets: DerivedSecrets) -> dict[str, list[bytes]]:
    """What a file or a process would hold if it held a secret, by what that would be."""
    given = words.split()
    every = (secrets.es256, secrets.es256k, secrets.ed25519, secrets.api_key)
    return {
        "three words in a row": [
            joint.join(given[at : at + 3]).encode()
            for at in range(22)
            for joint in (" ", '","', '", "', "%20", "+", "\0")
        ],
        "a derived secret": [
            form for secret in every for form in (secret, secret.hex().encode(), base64.b64encode(secret))
        ],
    }


def found(content: bytes, sought: dict[str, list[bytes]]) -> set[str]:
    return {what for what, forms in sought.items() if any(form in content for form in forms)}


def files_below(*folders: Path) -> list[Path]:
    return [path for folder in folders for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]


def about(pid: int) -> bytes:
    """Command line and environment; what may not be looked at even by us is nobody's to see."""
    told = b""
    for name in ("cmdline", "environ"):
        with contextlib.suppress(PermissionError):
            told += Path(f"/proc/{pid}/{name}").read_bytes()
    return told


def test_words_and_secrets_are_nowhere_but_in_one_file(tmp_path: Path) -> None:
    folders = {"TMPDIR": str(tmp_path), "HOME": str(tmp_path)}
    # A store that is small enough to be searched as a whole.
    with Newborn(workers=2, LOG_LEVEL="debug", SIGIL_STORE_SIZE="32MiB", **folders) as server:
        words = generate_mnemonic()
        wrong = " ".join([*words.split()[:23], "zoo zoo"])
        for asked in (words, wrong):
            server.post("/init/check", {"words": asked})
        server.post("/init/commit", {"words": wrong})
        session = server.commit(words)["session"]
        server.post("/init/commit", {"words": words})
        key = server.post("/init/api-keys", token=session).json()["api_key"]
        device = Device.generate()
        asked_for = server.post("/challenge", {"device_public_key": device.wire_key, "action": ACTION}, token=key)
        assert asked_for.status_code == 201
        server.modes(8)
        sought = traces(words, DerivedSecrets.from_mnemonic(words))
        sought |= {"the session": [session.encode()], "an API key": [key.encode(), key[-32:].encode()]}

        assert found((server.state / "data.mdb").read_bytes(), {"what is kept": [str(ACTION["description"]).encode()]})
        holders = {
            path.name: what
            for path in files_below(server.directory, server.state, tmp_path)
            if (what := found(path.read_bytes(), sought))
        }
        assert holders == {"identity": {"a derived secret"}}
        assert stat.S_IMODE((server.state / "identity").stat().st_mode) == 0o600
        for pid in (server.pid, *server.workers()):
            assert not found(about(pid), sought)
        server.stop()
        assert not found(server.log_path.read_bytes(), sought)


_ASK_A_WORKER = """
import ctypes, pathlib, resource, sys
from sigil.config.settings import Config
from sigil.app.wizard import InitSnapshot, create_app
from sigil.serving.process.worker import WorkerLifecycle

create_app(InitSnapshot(Config(state_dir=pathlib.Path(sys.argv[1])), None, None, True), WorkerLifecycle(0, 1))
print(resource.getrlimit(resource.RLIMIT_CORE), ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="whether a process is dumpable is Linux's to say")
def test_a_worker_through_which_words_pass_leaves_no_core_and_is_not_looked_into(tmp_path: Path) -> None:
    asked = subprocess.run(
        [sys.executable, "-c", _ASK_A_WORKER, str(tmp_path)], capture_output=True, text=True, check=False, timeout=120
    )
    assert asked.stdout.strip() == "(0, 0) 0", asked.stderr


def test_swap_is_told_of_and_compressed_memory_is_not(tmp_path: Path) -> None:
    table = tmp_path / "swaps"
    table.write_text(
        "Filename\tType\tSize\tUsed\tPriority\n/swapfile file 2097148 0 -2\n/dev/zram0 partition 4194300 0 100\n"
    )
    assert active_swap_devices(table) == ["/swapfile"]
    table.write_text("Filename\tType\tSize\tUsed\tPriority\n")
    assert active_swap_devices(table) == []
    assert active_swap_devices(tmp_path / "absent") == []
