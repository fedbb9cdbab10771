"""Where mnemonic and secrets are after a first boot: in memory and in one file."""

from __future__ import annotations

import base64
import contextlib
import stat
from pathlib import Path

from sigil.device import Device
from sigil.protocol.identity import DerivedSecrets, generate_mnemonic
from sigil.serving.process.memory_protection import active_swap_devices
from tests.first_boot.init_mode_server import InitModeServer
from tests.flows.backend import ACTION


def traces(words: str, secrets: DerivedSecrets) -> dict[str, list[bytes]]:
    """The forms in which a file or a process could contain a secret, by the kind of secret."""
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


def command_line_and_environment(pid: int) -> bytes:
    """Command line and environment. What even this process may not read is protected from all others."""
    content = b""
    for name in ("cmdline", "environ"):
        with contextlib.suppress(PermissionError):
            content += Path(f"/proc/{pid}/{name}").read_bytes()
    return content


def test_mnemonic_and_secrets_are_only_in_one_file(tmp_path: Path) -> None:
    folders = {"TMPDIR": str(tmp_path), "HOME": str(tmp_path)}
    # A store small enough to be searched completely.
    with InitModeServer(workers=2, LOG_LEVEL="debug", SIGIL_STORE_SIZE="32MiB", **folders) as server:
        words = generate_mnemonic()
        wrong = " ".join([*words.split()[:23], "zoo zoo"])
        for given in (words, wrong):
            server.post("/init/check", {"words": given})
        server.post("/init/commit", {"words": wrong})
        session = server.commit(words)["session"]
        server.post("/init/commit", {"words": words})
        key = server.post("/init/api-keys", token=session).json()["api_key"]
        device = Device.generate()
        created = server.post("/challenge", {"device_public_key": device.wire_key, "action": ACTION}, token=key)
        assert created.status_code == 201
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
            assert not found(command_line_and_environment(pid), sought)
        server.stop()
        assert not found(server.log_path.read_bytes(), sought)


def test_active_swap_devices_exclude_compressed_memory(tmp_path: Path) -> None:
    table = tmp_path / "swaps"
    table.write_text(
        "Filename\tType\tSize\tUsed\tPriority\n/swapfile file 2097148 0 -2\n/dev/zram0 partition 4194300 0 100\n"
    )
    assert active_swap_devices(table) == ["/swapfile"]
    table.write_text("Filename\tType\tSize\tUsed\tPriority\n")
    assert active_swap_devices(table) == []
    assert active_swap_devices(tmp_path / "absent") == []
