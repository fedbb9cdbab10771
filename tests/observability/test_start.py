"""The start scripts of deploy/observability: settings reach Prometheus, and a wrong one is one line."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.observability.dashboards import OBSERVABILITY
from tests.proxies.running import write_pair
from tests.support.live import DEADLINE, wait_until
from tests.support.ports import free_port
from tests.support.prometheus import program

PROMETHEUS, GRAFANA = OBSERVABILITY / "prometheus" / "start.sh", OBSERVABILITY / "grafana" / "start.sh"
# Of Debian and of the images.
SHELLS = [[shell] for shell in ("dash", "bash") if shutil.which(shell)]
SHELLS += [["busybox", "sh"]] if shutil.which("busybox") else []


@pytest.fixture
def folder() -> Iterator[Path]:
    """A certificate, tokens, and an empty folder for what the script writes."""
    made = Path(tempfile.mkdtemp(prefix="sigil-observability-"))
    write_pair(made, "sigil")
    (made / "tokens").mkdir()
    for name in ("sigil", "relay"):
        (made / "tokens" / name).write_text(f"the-token-of-{name}")
    (made / "run").mkdir()
    yield made
    shutil.rmtree(made)


def environ(folder: Path, **settings: str) -> Mapping[str, str]:
    return {
        "PATH": os.environ.get("PATH", ""),
        "SIGIL_UPSTREAM_CERT": str(folder / "cert.pem"),
        "METRICS_TOKENS": str(folder / "tokens"),
        "PROMETHEUS_RUN": str(folder / "run"),
        "PROXY_FUNCTIONS": str(OBSERVABILITY.parent / "proxies.sh"),
        "START_SECONDS": "1",
        **settings,
    }


@contextlib.contextmanager
def started(folder: Path, **settings: str) -> Iterator[str]:
    """Prometheus as the container starts it, on loopback; its URL."""
    program("prometheus")
    url = f"http://127.0.0.1:{free_port()}"
    arguments = [f"--storage.tsdb.path={folder / 'data'}", f"--web.listen-address={url.removeprefix('http://')}"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            ["sh", PROMETHEUS, *arguments],
            env=environ(folder, **settings),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:

        def ready() -> bool:
            assert process.poll() is None, (folder / "log").read_text()
            with contextlib.suppress(httpx.HTTPError):
                return httpx.get(f"{url}/-/ready", trust_env=False, timeout=DEADLINE).status_code == 200
            return False

        wait_until(ready, "Prometheus")
        yield url
    finally:
        process.terminate()
        process.wait(DEADLINE)


def configuration(url: str) -> Any:
    answer = httpx.get(f"{url}/api/v1/status/config", trust_env=False, timeout=DEADLINE).json()
    return yaml.safe_load(answer["data"]["yaml"])


def test_prometheus_starts_with_the_defaults(folder: Path) -> None:
    with started(folder) as url:
        found = configuration(url)
    jobs = {job["job_name"]: job for job in found["scrape_configs"]}
    assert set(jobs) == {"sigil", "relay"}
    assert jobs["sigil"]["tls_config"] == {
        "ca_file": str(folder / "cert.pem"),
        "server_name": "sigil",
        "insecure_skip_verify": False,
    }
    assert "alerting" not in found or not found["alerting"]["alertmanagers"][0].get("static_configs", [{}])[0].get(
        "targets"
    )


def test_a_page_of_another_site_cannot_read_the_figures(folder: Path) -> None:
    with started(folder) as url:
        query = f"{url}/api/v1/query?query=1"
        answer = httpx.get(query, headers={"Origin": "https://site.example"}, trust_env=False, timeout=DEADLINE)
    assert answer.status_code == 200
    assert "Access-Control-Allow-Origin" not in answer.headers


def test_its_settings_reach_prometheus(folder: Path) -> None:
    with started(folder, SIGIL_UPSTREAM_NAME="sigil.example.com", ALERTMANAGERS="one:9093,two:9093") as url:
        found = configuration(url)
    assert found["scrape_configs"][0]["tls_config"]["server_name"] == "sigil.example.com"
    (managers,) = found["alerting"]["alertmanagers"]
    assert managers["static_configs"] == [{"targets": ["one:9093", "two:9093"]}]


@pytest.mark.parametrize("shell", SHELLS, ids=" ".join)
@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"SIGIL_UPSTREAM_NAME": "a|b"}, "SIGIL_UPSTREAM_NAME has a character that does not belong there: "),
        ({"ALERTMANAGERS": "x: [1]"}, "ALERTMANAGERS has a character that does not belong there: "),
        ({"SIGIL_UPSTREAM_CERT": "/no/such/cert.pem"}, "cannot read /no/such/cert.pem: start the server first"),
        ({"METRICS_TOKENS": "/no/tokens"}, "cannot read /no/tokens/sigil: run 'make up' or 'make prod' of the stack"),
    ],
    ids=["name", "alertmanagers", "certificate", "tokens"],
)
def test_a_wrong_setting_is_one_line(folder: Path, shell: list[str], settings: dict[str, str], line: str) -> None:
    ran = subprocess.run(
        [*shell, PROMETHEUS], env=environ(folder, **settings), check=False, capture_output=True, text=True, timeout=60
    )
    assert ran.returncode == 1
    lines = [line for line in ran.stderr.splitlines() if "waits for" not in line]
    assert len(lines) == 1
    assert lines[0].startswith(f"start.sh: {line}")


def run_grafana(shell: list[str], password: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*shell, GRAFANA],
        env={
            "PATH": os.environ.get("PATH", ""),
            "GF_SECURITY_ADMIN_PASSWORD__FILE": str(password),
            "GRAFANA_RUN": "true",
        },
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize("shell", SHELLS, ids=" ".join)
def test_grafana_starts_with_a_password_and_not_without(tmp_path: Path, shell: list[str]) -> None:
    password = tmp_path / "password"
    absent = run_grafana(shell, password)
    assert absent.stderr == (
        "start.sh: cannot read the file with the password of Grafana's admin: GRAFANA_PASSWORD_FILE names it; it"
        " belongs to uid 472, with mode 0400\n"
    )
    assert absent.returncode == 1
    # Compose 1 makes a directory where a file is missing.
    assert run_grafana(shell, tmp_path).stderr == absent.stderr
    for weak in ("", "admin\n", "     \n       \n", "elevenchars"):
        password.write_text(weak)
        ran = run_grafana(shell, password)
        assert (ran.returncode, len(ran.stderr.splitlines())) == (1, 1)
        assert "fewer than 12 characters" in ran.stderr
    password.write_text("0123456789ab\n")
    assert (run_grafana(shell, password).returncode, run_grafana(shell, password).stderr) == (0, "")


def test_the_collector_has_the_variables_that_its_file_names() -> None:
    """No collector is to be had: its file is compared with the Compose file, and its pipeline with its parts."""
    text = (OBSERVABILITY / "otel" / "collector.yaml").read_text(encoding="utf-8")
    settings = yaml.safe_load(text)
    services = yaml.safe_load((OBSERVABILITY / "docker-compose.yml").read_text(encoding="utf-8"))["services"]
    named = {part.partition("}")[0] for part in text.split("${env:")[1:]}
    assert named == set(services["otel-collector"]["environment"])
    (pipeline,) = settings["service"]["pipelines"].values()
    assert pipeline["receivers"] == list(settings["receivers"])
    # The limiter first, so that what is rejected was never queued.
    assert pipeline["processors"] == list(settings["processors"]) == ["memory_limiter", "batch"]
    default = services["otel-collector"]["environment"]["COLLECTOR_EXPORTER"].partition(":-")[2].rstrip("}")
    assert default in settings["exporters"]
    assert "ports" not in services["otel-collector"]
