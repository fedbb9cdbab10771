"""A running server: its master fetches the list, workers read it without a restart, SIGHUP reads the lists again."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from pathlib import Path

from sigil.android_status.list_file import replace
from sigil.device import Device
from sigil.device.test_phone.roots import ROOTS_FILE, TestRoot
from sigil.protocol.device_credential import parse
from tests.flows.backend import Backend
from tests.flows.test_attestation import Phones
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


def check_that_a_listed_phone_may_not_approve(server: LiveServer, file: Path, roots: Path) -> None:
    """Its credential stops working within a second on each worker, without a signal."""
    with Backend(server) as backend:
        phones, device = Phones(server, backend, roots), Device.generate()
        credential = phones.attest("android", device)["device_credential"]
        assert phones.answer(device, credential)[0].status_code == 200
        serials = parse(credential).facts.serials
        entries = {f"a{n:x}": {"status": "REVOKED"} for n in range(8)} | {serials[-1]: {"status": "SUSPENDED"}}
        replace(file, json.dumps({"entries": entries}).encode(), time.time())

        def reason() -> object:
            return phones.answer(device, credential)[0].json().get("error", {}).get("details", {}).get("reason")

        wait_until(lambda: reason() == "revoked", "the refusal", 60)


def test_the_master_fetches_workers_read_and_sighup_reads_the_apps_again(tmp_path: Path) -> None:
    apps = tmp_path / "apps"
    apps.write_text("")
    TestRoot.create(tmp_path / "roots")
    with lists_server(tmp_path) as source:
        source.script = lambda handler: send(handler, content(7))
        with LiveServer(
            workers=2,
            SIGIL_ANDROID_APPS=f"org.example.sigil:{bytes(range(32)).hex()}",
            SIGIL_ATTESTATION_ROOTS=str(tmp_path / "roots" / ROOTS_FILE),
            SIGIL_APPLE_APPS_FILE=str(apps),
            SIGIL_DEVICE_RATE="off",
            SIGIL_RATE_LIMIT="off",
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

            check_that_a_listed_phone_may_not_approve(server, file, tmp_path / "roots")
            assert events(server, "internal_error") == []
            assert events(server, "background_loop_failed") == []
