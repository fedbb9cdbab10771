"""What an operator relies on."""

from __future__ import annotations

import shutil
from pathlib import Path

from sigil.protocol.identity import generate_mnemonic
from tests.live import LiveServer, wait_until


def test_secrets_of_the_environment_do_not_reach_workers_or_any_command_line() -> None:
    words, key = generate_mnemonic(), "a-pre-set-key-of-more-than-32-characters"
    server = LiveServer(workers=1, mnemonic=words)
    server.environ |= {"SIGIL_MNEMONIC": words, "API_KEY": key}
    del server.environ["SIGIL_MNEMONIC_PATH"]
    with server:
        for pid in server.workers():
            environ = Path(f"/proc/{pid}/environ").read_bytes()
            assert words.encode() not in environ
            assert key.encode() not in environ
        for pid in (server.pid, *server.workers()):
            # One word alone may stand there: "sing" is in every worker's "multiprocessing".
            line = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ")
            assert " ".join(words.split()[:3]).encode() not in line
        with server.client() as client:
            nobody = "/v1/auth/challenge/00000000-0000-4000-8000-000000000000/status"
            assert client.get(nobody, headers={"Authorization": f"Bearer {key}"}).status_code == 404


def test_a_state_directory_that_is_gone_makes_the_server_unhealthy_until_it_is_started_again() -> None:
    with LiveServer(workers=1) as server, server.client() as client:
        assert client.get("/health").json()["status"] == "healthy"
        shutil.rmtree(server.state)
        answer = client.get("/health")
        assert (answer.status_code, answer.json()["status"]) == (503, "unhealthy")
        server.stop()
        server.start()
        assert wait_until(lambda: client.get("/health").status_code == 200, "health after the restart")
