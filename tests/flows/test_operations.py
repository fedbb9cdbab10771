"""Secrets, state directory and reload of a running server."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path

from sigil.device import Device
from sigil.protocol.identity import generate_mnemonic
from tests.first_boot.init_mode_server import UNKNOWN_CHALLENGE
from tests.support.live import LiveServer, wait_until


def test_secrets_of_the_environment_do_not_reach_workers_or_any_command_line() -> None:
    mnemonic, key = generate_mnemonic(), "a-pre-set-key-of-more-than-32-characters"
    server = LiveServer(workers=1, mnemonic=mnemonic)
    server.environ |= {"SIGIL_MNEMONIC": mnemonic, "API_KEY": key}
    del server.environ["SIGIL_MNEMONIC_PATH"]
    with server:
        for pid in server.workers():
            environ = Path(f"/proc/{pid}/environ").read_bytes()
            assert mnemonic.encode() not in environ
            assert key.encode() not in environ
        for pid in (server.pid, *server.workers()):
            # Three words, since one alone may occur by chance: "sing" is in every worker's "multiprocessing".
            line = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ")
            assert " ".join(mnemonic.split()[:3]).encode() not in line
        with server.client() as client:
            unknown_challenge = "/v1/auth/challenge/00000000-0000-4000-8000-000000000000/status"
            assert client.get(unknown_challenge, headers={"Authorization": f"Bearer {key}"}).status_code == 404


def test_a_deleted_state_directory_makes_the_server_unhealthy_until_a_restart() -> None:
    with LiveServer(workers=1) as server, server.client() as client:
        assert client.get("/health").json()["status"] == "healthy"
        shutil.rmtree(server.state)
        answer = client.get("/health")
        assert (answer.status_code, answer.json()["status"]) == (503, "unhealthy")
        server.stop()
        server.start()
        assert wait_until(lambda: client.get("/health").status_code == 200, "health after the restart")


def secret_file(path: Path, text: str) -> str:
    path.touch(0o600)
    path.write_text(text)
    return str(path)


def test_a_reload_reads_keys_and_revocations_and_no_file_that_may_be_deleted_after_the_start(tmp_path: Path) -> None:
    before, after = "a-pre-set-key-of-more-than-32-characters", "another-pre-set-key-of-more-than-32-characters"
    server = LiveServer(
        workers=1,
        API_KEY_FILE=secret_file(tmp_path / "keys", before),
        SIGIL_REVOKED_API_KEYS_FILE=secret_file(tmp_path / "revoked", ""),
        SIGIL_REVOKED_DEVICES_FILE=secret_file(tmp_path / "lost", ""),
        METRICS_TOKEN_FILE=secret_file(tmp_path / "token", "a-token-that-was-needed-at-the-start"),
    )
    with server, server.client() as client:

        def status(key: str) -> int:
            return client.get(
                UNKNOWN_CHALLENGE, headers={"Authorization": f"Bearer {key}", "Connection": "close"}
            ).status_code

        lost = Device.generate()

        def challenge(key: str) -> int:
            body = {"device_public_key": lost.wire_key, "action": {"type": "login", "description": "Sign in"}}
            headers = {"Authorization": f"Bearer {key}", "Connection": "close"}
            return client.post("/challenge", json=body, headers=headers).status_code

        assert challenge(before) == 201
        assert [status(key) for key in (before, after, server.api_key)] == [404, 401, 404]
        Path(server.environ["SIGIL_MNEMONIC_PATH"]).unlink()
        (tmp_path / "token").unlink()
        secret_file(tmp_path / "keys", after)
        secret_file(tmp_path / "lost", lost.fingerprint)
        secret_file(tmp_path / "revoked", server.api_key.removeprefix("sgk_test_")[:32])
        os.kill(server.pid, signal.SIGHUP)
        done = {"reload_finished", "reload_refused"}
        wait_until(lambda: done & {line["event"] for line in server.log()}, "the end of the reload")
        assert [status(key) for key in (before, after, server.api_key)] == [401, 404, 401]
        assert challenge(after) == 403
