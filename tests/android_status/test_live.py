"""A running server: its master fetches the list, workers read it without a restart, SIGHUP reads the lists again."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from pathlib import Path

from sigil.android_status.list_file import replace
from tests.serving.cloudflare.lists_server import lists_server, send
from tests.support.live import LiveServer, wait_until

OLD = 31 * 86_400


def content(count: int) -> bytes:
    return json.dumps({"entries": {f"a{n:x}": {"status": "REVOKED"} for n in range(count)}}).encode()


def age(server: LiveServer) -> float:
    with server.client() as http:
        found = re.search(r"^sigil_android_status_age_seconds (\S+)$", http.get("/metrics").text, re.MULTILINE)
    assert found is not None
    return float(found[1])


def events(server: LiveServer, event: str) -> list[dict[str, object]]:
    return [line for line in server.log() if line["event"] == event]


def accepted(server: LiveServer) -> object:
    with server.client() as http:
        return http.get("/info").json().get("attestation")


def test_the_master_fetches_workers_read_and_sighup_reads_the_apps_again(tmp_path: Path) -> None:
    apps = tmp_path / "apps"
    apps.write_text("")
    android = f"com.example.app:{'3b' * 32}"
    with lists_server(tmp_path) as source:
        source.script = lambda handler: send(handler, content(7))
        with LiveServer(
            workers=2,
            SIGIL_ANDROID_APPS=android,
            SIGIL_APPLE_APPS_FILE=str(apps),
            SIGIL_ANDROID_STATUS_FETCH=f"{source.url}/status",
            SSL_CERT_FILE=str(source.certificate),
        ) as server:
            wait_until(lambda: len(server.workers()) == 2, "both workers")
            workers = server.workers()
            wait_until(lambda: events(server, "android_status_fetched"), "the fetch")
            assert events(server, "android_status_fetched")[0]["entries"] == 7
            wait_until(lambda: age(server) < 600, "the list in the workers")
            assert server.workers() == workers
            file = server.state / "android-status.json"
            assert file.stat().st_uid == server.state.stat().st_uid

            # An older file, as an operator writes it: no signal.
            replace(file, content(8), time.time() - OLD)
            wait_until(lambda: age(server) > OLD, "the old list in the workers")
            assert server.workers() == workers

            assert accepted(server) == {"kinds": ["android-key"], "required": False}
            apps.write_text("A1B2C3D4E5.com.example.app\n")
            os.kill(server.pid, signal.SIGHUP)
            wait_until(lambda: events(server, "reload_finished"), "the reload")
            assert accepted(server) == {"kinds": ["android-key", "apple-appattest"], "required": False}
            # SIGHUP fetches too.
            wait_until(lambda: age(server) < 600, "the list of the next fetch")

            apps.write_text("com.example.app\n")
            os.kill(server.pid, signal.SIGHUP)
            wait_until(lambda: events(server, "reload_refused"), "the refused reload")
            assert "SIGIL_APPLE_APPS" in str(events(server, "reload_refused")[0]["reason"])
            assert accepted(server) == {"kinds": ["android-key", "apple-appattest"], "required": False}
            assert events(server, "internal_error") == []
            assert events(server, "background_loop_failed") == []
