"""deploy/observability as a Compose project next to the stack.

Prometheus runs, as a stand-in of its official image. There is none of Grafana and the collector: only their settings
are checked."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from sigil.protocol.identity import generate_mnemonic
from tests.containers.engine import parts
from tests.containers.stack import V1, V2, Host, Stack
from tests.observability.dashboards import NAMES, targets
from tests.support.live import DEADLINE, wait_until
from tests.support.ports import free_port

FOLDER = parts.ROOT / "deploy" / "observability"
SERVICES = ("prometheus", "grafana", "otel-collector")
TOKENS = "/run/metrics-tokens"


class Project:
    """The project of deploy/observability next to a stack that runs."""

    def __init__(self, stack: Stack, host: Host) -> None:
        self.stack, self._host = stack, host
        self.folder = stack.folder / "deploy" / "observability"
        self.port = free_port()
        self.settings = {
            "GRAFANA_PASSWORD_FILE": str(stack.folder / "grafana_password"),
            "PROMETHEUS_PUBLISH": f"127.0.0.1:{self.port}",
            **{key: stack.settings[key] for key in ("SIGIL_EDGE_NAME", "SIGIL_EDGE_NET", "SIGIL_TLS_VOLUME")},
            "COMPOSE_PROJECT_NAME": f"{stack.project}-observability",
        }

    def compose(self, *arguments: str, check: bool = True) -> Any:
        program = ["docker", "compose"] if self._host.compose_version == V2 else ["docker-compose"]
        return self._host.run([*program, *arguments], self.folder, check=check)

    def __enter__(self) -> Project:
        lines = [f"{name}='{value}'\n" for name, value in self.settings.items()]
        (self.folder / ".env").write_text("".join(lines))
        try:
            self.compose("up", "--detach", "prometheus")
            wait_until(self.scrapes, f"Prometheus to scrape both services: {self.logs()}")
        except BaseException:
            # Its network is the stack's, which could not be removed.
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.compose("down", "--volumes")

    def container(self) -> str:
        found: str = self.compose("ps", "-q", "prometheus").stdout.strip()
        return found

    def inspect(self) -> dict[str, Any]:
        (found,) = json.loads(self.stack.docker("inspect", self.container()).stdout)
        inspected: dict[str, Any] = found
        return inspected

    def logs(self) -> str:
        return self.stack.host.run(["sh", "-c", 'docker logs "$1" 2>&1', "sh", self.container()], self.folder).stdout

    def get(self, path: str, **parameters: str) -> Any:
        url = f"http://127.0.0.1:{self.port}/api/v1{path}"
        # It answers 503 while it starts.
        return httpx.get(url, params=parameters, trust_env=False, timeout=DEADLINE).raise_for_status().json()

    def values(self, expression: str) -> dict[str, float]:
        """The values of an instant query, by job."""
        found = self.get("/query", query=expression)["data"]["result"]
        return {series["metric"].get("job", ""): float(series["value"][1]) for series in found}

    def scrapes(self) -> bool:
        with contextlib.suppress(httpx.HTTPError):
            return self.values("up") == {"sigil": 1, "relay": 1}
        return False


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    made = Stack(
        tmp_path_factory.mktemp("stack"),
        SIGIL_MODE="operational",
        SIGIL_MNEMONIC=generate_mnemonic(),
        SIGIL_WORKERS="2",
        SIGIL_STORE_SIZE="64MiB",
    )
    with made:
        made.make("up")
        yield made


@pytest.fixture(scope="module", params=[V2, V1])
def project(request: Any, stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """One after the other, at the same address; Compose 1 joins what Compose 2 made."""
    with Project(stack, Host(tmp_path_factory.mktemp("host"), request.param)) as running:
        yield running


def tokens(stack: Stack) -> dict[str, str]:
    return {
        service: stack.exec(service, "cat", f"/run/{service}-secrets/metrics_token").stdout
        for service in ("sigil", "relay")
    }


def test_every_query_of_the_dashboards_and_rules_answers(project: Project) -> None:
    for name in NAMES:
        for target in targets(name):
            answer = project.get("/query", query=target.substituted("1m", ".*"))
            assert answer["status"] == "success", (target, answer)
    wait_until(
        lambda: "unknown" not in {rule["health"] for rule in rules(project)}, "the first evaluation of all rules"
    )
    assert {rule["name"]: rule.get("lastError") for rule in rules(project) if rule["health"] != "ok"} == {}
    assert {"SigilDown", "RelayDown"} <= {rule["name"] for rule in rules(project)}


def rules(project: Project) -> list[dict[str, Any]]:
    return [rule for group in project.get("/rules")["data"]["groups"] for rule in group["rules"]]


def test_no_token_is_in_settings_logs_or_answers_of_prometheus(project: Project) -> None:
    configuration = json.dumps(project.get("/status/config"))
    assert f"credentials_file: {TOKENS}/sigil" in configuration
    shown = configuration + json.dumps(project.get("/targets")) + json.dumps(project.inspect()) + project.logs()
    assert [service for service, token in tokens(project.stack).items() if token in shown] == []


def test_prometheus_reads_the_tokens_and_the_certificate_and_no_other_secret(project: Project) -> None:
    mounts = {mount["Destination"]: mount["RW"] for mount in project.inspect()["Mounts"]}
    assert mounts == {
        "/opt/sigil/prometheus": False,
        "/opt/sigil/proxies.sh": False,
        "/var/lib/sigil/tls": False,
        TOKENS: False,
        "/prometheus": True,
    }
    run = ("exec", project.container())
    assert project.stack.docker(*run, "ls", TOKENS).stdout.split() == ["relay", "sigil"]
    assert project.stack.docker(*run, "stat", "-c", "%u %g %a", f"{TOKENS}/sigil").stdout.split() == [
        "10001",
        "10001",
        "440",
    ]
    assert project.stack.docker(*run, "cat", "/var/lib/sigil/tls/key.pem", check=False).returncode != 0
    assert project.stack.docker(*run, "id", "-u").stdout.strip() == "65534"


def test_the_container_is_hardened_bounded_and_published_on_loopback_alone(project: Project) -> None:
    found = project.inspect()
    host = found["HostConfig"]
    assert host["ReadonlyRootfs"]
    assert host["CapDrop"] == ["ALL"]
    assert not host["CapAdd"]
    assert any(option.startswith("no-new-privileges") for option in host["SecurityOpt"])
    assert host["Init"]
    assert host["RestartPolicy"]["Name"] == "unless-stopped"
    assert host["LogConfig"] == {"Type": "json-file", "Config": {"max-file": "5", "max-size": "10m"}}
    assert (host["Memory"], host["MemorySwap"], host["NanoCpus"]) == (1 << 30, 1 << 30, 10**9)
    assert host["PidsLimit"] == 256
    assert [binding["HostIp"] for ports in host["PortBindings"].values() for binding in ports] == ["127.0.0.1"]
    networks = found["NetworkSettings"]["Networks"]
    # An address of its own: the engine would choose the proxy's, which the services trust.
    assert networks[project.stack.settings["SIGIL_EDGE_NAME"]]["IPAddress"] == f"{project.stack.subnet}.20"
    flags = project.get("/status/flags")["data"]
    assert flags["storage.tsdb.retention.time"] == "15d"
    assert flags["storage.tsdb.retention.size"] == "2GiB"
    assert (flags["web.enable-admin-api"], flags["web.enable-lifecycle"]) == ("false", "false")


def test_the_health_check_of_the_file_works_in_the_container(project: Project) -> None:
    health = ["inspect", "--format", "{{.State.Health.Status}}", project.container()]
    wait_until(lambda: project.stack.docker(*health).stdout.strip() == "healthy", "a healthy Prometheus")


def test_a_renewed_certificate_is_trusted_without_a_restart(project: Project) -> None:
    """Prometheus reads the file again: the proxies have to reload, it has not."""
    started = 'process_start_time_seconds{job="sigil"}'
    certificate, server = project.stack.certificate().read_text(), project.values(started)
    since = project.inspect()["State"]["StartedAt"]
    project.stack.exec("sigil", "sh", "-c", "rm /var/lib/sigil/tls/cert.pem /var/lib/sigil/tls/key.pem")
    project.stack.docker("restart", project.stack.container("sigil"))
    project.stack.wait_healthy("sigil")
    assert project.stack.certificate().read_text() != certificate
    wait_until(lambda: project.values(started) not in ({}, server), "a scrape of the new process")
    assert project.inspect()["State"]["StartedAt"] == since


def test_the_copies_of_the_tokens_follow_their_originals(stack: Stack) -> None:
    """`setup` runs with each `up`, and also where the stack is older than this project."""
    mounted = ("run", "--rm", "--volume", f"{stack.settings['SIGIL_EDGE_NAME']}-metrics:{TOKENS}", "busybox:1.37")
    for broken in (f"rm -f {TOKENS}/sigil", f"echo old > {TOKENS}/sigil.new && mv {TOKENS}/sigil.new {TOKENS}/sigil"):
        stack.docker(*mounted, "sh", "-c", broken)
        stack.make("up")
        shown = stack.docker(*mounted, "sh", "-c", f"cat {TOKENS}/sigil; stat -c %a {TOKENS}/sigil").stdout
        assert shown == f"{tokens(stack)['sigil']}440\n"


def effective(tmp_path: Path, version: str, **settings: str) -> Any:
    """What Compose makes of the file, by the program `config`."""
    program = ["docker", "compose"] if version == V2 else ["docker-compose"]
    return Host(tmp_path / version, version).run([*program, "config"], FOLDER, check=False, **settings)


def test_both_versions_of_compose_read_the_file_alike_and_without_warnings(tmp_path: Path) -> None:
    services = []
    for version in (V1, V2):
        (tmp_path / version).mkdir()
        done = effective(tmp_path, version, GRAFANA_PASSWORD_FILE="/etc/sigil/grafana_password")
        assert (done.returncode, done.stderr) == (0, "")
        services.append(yaml.safe_load(done.stdout)["services"])
    first, second = services
    assert set(first) == set(second) == set(SERVICES)
    for name in SERVICES:
        for key in ("image", "environment", "user", "group_add", "entrypoint", "command", "read_only", "cap_drop"):
            assert first[name].get(key) == second[name].get(key), (name, key)
        for service in (first[name], second[name]):
            assert service["read_only"]
            assert service["cap_drop"] == ["ALL"]
            assert service["security_opt"] == ["no-new-privileges:true"]
            assert service["restart"] == "unless-stopped"
            assert int(service["pids_limit"]) <= 256
            assert service["logging"]["options"] == {"max-file": "5", "max-size": "10m"}
            assert service["mem_limit"] == service["memswap_limit"]
            assert "ports" not in service or name != "otel-collector"
            for port in service.get("ports", []):
                # Compose 1 gives a text, Compose 2 a mapping.
                assert (port["host_ip"] if isinstance(port, dict) else port.split(":")[0]) == "127.0.0.1"


@pytest.mark.parametrize("version", [V1, V2])
def test_the_password_of_grafana_has_to_be_chosen(tmp_path: Path, version: str) -> None:
    (tmp_path / version).mkdir()
    done = effective(tmp_path, version)
    assert done.returncode != 0
    assert "set GRAFANA_PASSWORD_FILE to a file with the password of Grafana's admin" in done.stderr
