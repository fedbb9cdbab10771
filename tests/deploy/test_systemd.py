"""deploy/systemd: what the units promise, and their commands run as they say."""

from __future__ import annotations

import json
import shutil
import ssl
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import httpx
import pytest

from relay.config import load as load_relay
from sigil.config.settings import load as load_sigil
from sigil.protocol.api_key import issue_api_key
from sigil.protocol.identity import DerivedSecrets, generate_mnemonic
from tests.config.test_settings import names_read_by
from tests.deploy.units import ACCOUNT, FOLDER, IS_ROOT, UnitProcess, credentials, environment, unit
from tests.support.live import wait_until
from tests.support.ports import free_port
from tests.support.postgres import PostgresServer

pytest_plugins = ["tests.support.postgres_fixtures"]

SERVICES = {"sigil.service": load_sigil, "sigil-relay.service": load_relay}
TOKEN = "a-token-of-the-metrics-of-this-test"


@pytest.mark.parametrize("name", SERVICES)
def test_the_command_is_one_that_the_package_installs(name: str) -> None:
    scripts = tomllib.loads((FOLDER.parents[1] / "pyproject.toml").read_text())["project"]["scripts"]
    (command,) = unit(name)["ExecStart"]
    program, *arguments = command.split()
    assert Path(program).parent == Path("/opt/sigil/bin")
    assert (Path(program).name in scripts, arguments) == (True, ["serve"])


@pytest.mark.parametrize("name", SERVICES)
def test_settings_exist_and_secrets_are_credentials(name: str) -> None:
    values = unit(name)
    names = environment(values)
    assert names.keys() <= names_read_by(SERVICES[name])
    assert {value for value in names.values() if value.startswith("%d/")} == {f"%d/{c}" for c in credentials(values)}
    assert not {"SIGIL_MNEMONIC", "DATABASE_URL", "TOKEN_ENCRYPTION_KEY", "METRICS_TOKEN"} & names.keys()


@pytest.mark.parametrize("name", SERVICES)
def test_what_the_service_needs_is_not_taken_away(name: str) -> None:
    values = unit(name)
    # It raises its limit of descriptors, and its master looks at its workers.
    assert not any("@resources" in value and value.startswith("~") for value in values["SystemCallFilter"])
    assert "ProtectProc" not in values
    assert "ProcSubset" not in values
    assert values["TimeoutStopSec"] == ["15s"]
    assert values["KillMode"] == ["mixed"]


def test_sessions_outlive_the_service() -> None:
    values = unit("sigil.service")
    assert values["RuntimeDirectoryPreserve"] == ["yes"]
    (runtime,) = values["RuntimeDirectory"]
    assert environment(values)["SIGIL_STATE_DIR"] == f"/run/{runtime}/state"
    mount = unit("run-sigil.mount")
    assert (mount["Where"], mount["Type"]) == ([f"/run/{runtime}"], ["tmpfs"])


def events(process: UnitProcess, name: str) -> list[dict[str, Any]]:
    lines = process.log.read_text().splitlines() if process.log.exists() else []
    found = [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]
    return [line for line in found if line["event"] == name]


def assert_is_confined(process: UnitProcess) -> None:
    status = dict(line.split(":\t", 1) for line in Path(f"/proc/{process.pid}/status").read_text().splitlines())
    limits = Path(f"/proc/{process.pid}/limits").read_text()
    descriptors = str(process.descriptors)
    assert [descriptors, descriptors] == next(x for x in limits.splitlines() if "open files" in x).split()[3:5]
    if IS_ROOT:
        assert set(status["Uid"].split()) == {str(ACCOUNT)}
        assert int(status["CapBnd"], 16) == int(status["CapEff"], 16) == 0
        assert status["NoNewPrivs"] == "1"
        mounts = [line.split() for line in Path(f"/proc/{process.pid}/mountinfo").read_text().splitlines()]
        assert next(mount[5] for mount in reversed(mounts) if mount[4] == "/").startswith("ro")


def test_the_server_runs_as_its_unit_says_and_keeps_its_sessions() -> None:
    mnemonic = generate_mnemonic()
    key = issue_api_key(DerivedSecrets.from_mnemonic(mnemonic).api_key, "sgk_test_", bytes(16))
    port = free_port()
    settings = {
        "SIGIL_HOST": "127.0.0.1",
        "SIGIL_PORT": str(port),
        "SIGIL_STORE_SIZE": "128MiB",
        "SIGIL_WORKERS": "1",
        "RELAY_URL": "",
    }
    with UnitProcess("sigil.service", {"mnemonic": mnemonic, "metrics_token": TOKEN}, settings) as process:
        certificate = process.state / "sigil" / "tls" / "cert.pem"
        # As on a host with this unit alone: the defaults of the server name the directory.
        process.environ |= {"TLS_CERT_PATH": str(certificate), "TLS_KEY_PATH": str(certificate.with_name("key.pem"))}
        process.start()
        wait_until(lambda: process.pid and events(process, "worker_ready"), "the worker")
        assert_is_confined(process)
        with httpx.Client(
            base_url=f"https://127.0.0.1:{port}",
            verify=ssl.create_default_context(cafile=str(certificate)),
            trust_env=False,
            timeout=60,
        ) as http:
            assert http.get("/health").json()["status"] == "healthy"
            assert http.get("/metrics", headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 200
            assert http.post("/challenge", json={}, headers={"Authorization": f"Bearer {key}"}).status_code == 400
        process.reload()
        wait_until(lambda: process.pid and events(process, "reload_finished"), "the reload")
        assert process.stop() == 0
        process.start()
        wait_until(lambda: process.pid and len(events(process, "server_starting")) == 2, "the second start")
        assert [line["sessions"] for line in events(process, "sigil_starting")] == ["new", "adopted"]
        assert process.stop() == 0


def test_the_relay_runs_as_its_unit_says(postgres: PostgresServer) -> None:
    port = free_port()
    settings = {"RELAY_HOST": "127.0.0.1", "RELAY_PORT": str(port), "RELAY_WORKERS": "1"}
    secrets = {
        "database_url": postgres.new_database(),
        "token_encryption_key": "k" * 40,
        "metrics_token": TOKEN,
    }
    with UnitProcess("sigil-relay.service", secrets, settings) as process:
        process.start()
        wait_until(lambda: process.pid and events(process, "worker_ready"), "the worker")
        assert_is_confined(process)
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=60) as http:
            assert http.get("/health").status_code == 200
        process.reload()
        wait_until(lambda: process.pid and events(process, "reload_finished"), "the reload")
        assert process.stop() == 0


if shutil.which("systemd-analyze"):

    def analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(["systemd-analyze", *arguments], check=False, capture_output=True, text=True, timeout=120)

    def test_systemd_finds_no_fault_in_the_units() -> None:
        for file in sorted(path for path in FOLDER.iterdir() if path.suffix in {".service", ".mount"}):
            lines = analyze("verify", "--man=no", str(file)).stderr.splitlines()
            # The program is not installed here.
            assert [line for line in lines if "/opt/sigil/bin" not in line] == []

    @pytest.mark.parametrize("name", SERVICES)
    def test_the_exposure_of_the_units_is_low(name: str) -> None:
        ran = analyze("security", "--offline=yes", "--threshold=20", str(FOLDER / name))
        assert ran.returncode == 0, ran.stdout
