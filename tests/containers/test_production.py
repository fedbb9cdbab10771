"""`make prod`, and the same by hand: limits, secrets as files, and a relay that trusts this server alone."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from sigil.device import Device
from tests.containers.production import FILES, LIMITED, Production, new_version
from tests.containers.stack import V2
from tests.flows.backend import Backend, approval


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Production]:
    with Production(tmp_path_factory.mktemp("production"), V2, files=None) as one:
        one.printed = one.make("prod").stdout  # type: ignore[attr-defined]
        yield one


def test_make_prod_checks_starts_and_prints_the_identity_and_the_next_step(stack: Production) -> None:
    printed = stack.printed  # type: ignore[attr-defined]
    assert "ok      resource_limits: every service has a memory limit" in printed
    assert "ok      mnemonic: valid" in printed
    assert "open    attestation" in printed
    assert "ok      session_store: 64 MiB fit" in printed
    assert "open    COMPOSE_FILE: a plain 'docker-compose up -d' would start the stack of development" in printed
    assert "\nfailed" not in printed
    assert "\x1b[" not in printed.partition("server_id   ")[2]
    server_id = stack.identity().split()[1]
    assert f"server_id   {server_id}" in printed
    assert "https://sigil.example.com" in printed


def test_every_container_has_its_limits_and_no_swap(stack: Production) -> None:
    stack.check_limits()


def test_the_session_store_counts_against_the_limit_of_the_server(stack: Production) -> None:
    program = "import pathlib as p; f = p.Path('/sys/fs/cgroup/memory.current'); print((f if f.exists() else p.Path('/sys/fs/cgroup/memory/memory.usage_in_bytes')).read_text())"  # noqa: E501
    assert int(stack.exec("sigil", "python", "-c", program).stdout) > 64 << 20


def test_no_secret_is_a_variable_or_an_argument_of_a_container(stack: Production) -> None:
    mnemonic = stack.mnemonic.read_text(encoding="ascii")
    secrets = {mnemonic}
    for name in ("postgres_password", "database_url", "token_encryption_key", "metrics_token", "webpush_key"):
        secrets.add(stack.exec("relay", "cat", f"/run/relay-secrets/{name}").stdout)
    for service in ("sigil", "relay", "postgres", "state", "setup", "identity"):
        text = json.dumps(stack.inspect(service))
        assert not [secret for secret in secrets if secret in text], service
    environ = stack.exec("sigil", "sh", "-c", "cat /proc/*/environ 2>/dev/null | tr '\\0' '\\n'").stdout
    assert mnemonic not in environ


def test_all_ports_are_on_loopback_and_the_database_has_none(stack: Production) -> None:
    for service in ("sigil", "relay", "postgres"):
        published = stack.inspect(service)["NetworkSettings"]["Ports"] or {}
        hosts = {binding["HostIp"] for bindings in published.values() for binding in bindings or []}
        assert hosts <= {"127.0.0.1"}
        assert bool(hosts) is (service != "postgres")


def test_the_relay_trusts_this_server_without_an_id_in_the_settings(stack: Production) -> None:
    server_id = stack.identity().split()[1]
    assert server_id in stack.exec("relay", "sigil-relay", "servers", "list").stdout
    trusted = stack.exec("relay", "cat", "/run/relay-trust/trusted_servers").stdout
    assert trusted.split() == [server_id]
    environ = dict(entry.split("=", 1) for entry in stack.inspect("relay")["Config"]["Env"])
    assert environ["RELAY_TRUST_ON_FIRST_USE"] == "false"


def test_by_hand_the_guide_s_command_changes_nothing(stack: Production) -> None:
    before = {service: stack.container(service) for service in LIMITED}
    stack.compose("-f", FILES[0], "-f", FILES[1], "up", "-d")
    assert {service: stack.container(service) for service in LIMITED} == before


def test_a_reload_leaves_the_restart_policy_and_reads_new_api_keys(stack: Production) -> None:
    before = stack.container("sigil")
    stack.make("reload", COMPOSE_FILE=":".join(FILES))
    assert stack.container("sigil") == before
    assert stack.inspect("sigil")["HostConfig"]["RestartPolicy"]["Name"] == "unless-stopped"


def test_development_does_not_replace_a_stack_in_production(stack: Production) -> None:
    before = stack.container("sigil")
    done = stack.make("up", check=False)
    assert done.returncode != 0
    assert "runs in production: use 'make prod'" in done.stderr
    assert stack.container("sigil") == before


def test_a_plain_up_without_the_production_file_starts_no_wizard(stack: Production) -> None:
    done = stack.compose("-f", "docker-compose.yml", "up", "-d", check=False)
    assert done.returncode != 0
    assert "This stack runs in production" in stack.docker("logs", stack.container("setup")).stderr
    assert not stack.events("sigil", "init_mode")
    stack.make("prod")
    stack.wait_healthy("sigil", "relay")


def test_the_guide_s_upgrade_keeps_the_sessions(stack: Production) -> None:
    """With COMPOSE_FILE in .env, as preflight recommends, plain commands use both files."""
    stack.write_settings(COMPOSE_FILE=":".join(FILES))
    stack.make_api_key()
    device = Device.generate("Ed25519")
    with Backend(stack) as backend:  # type: ignore[arg-type]
        created = backend.create_challenge(device)
    before = {service: stack.container(service) for service in LIMITED}
    version = new_version(stack)
    # In place of the guide's `docker-compose pull`: there is no registry here.
    stack.compose("build", "--quiet", "sigil", "relay")
    stack.compose("up", "-d")
    stack.wait_healthy("sigil", "relay")
    # Compose 2 also recreates postgres, since it depends on `setup`, whose image is new.
    assert stack.container("state") == before["state"]
    assert stack.container("sigil") != before["sigil"]
    (start,) = stack.events("sigil", "sigil_starting")
    assert start["sessions"] == "adopted"
    with Backend(stack) as backend:  # type: ignore[arg-type]
        assert backend.http.get("/health").json()["version"] == version
        body = approval(device, created, created["match_code"])
        assert backend.http.post("/respond", json=body).status_code == 200
        assert backend.status(created)["status"] == "verified"


def test_a_reset_also_deletes_the_volumes_of_production(stack: Production) -> None:
    del stack.settings["COMPOSE_FILE"]
    stack.write_settings()
    stack.make("down")
    assert stack.find("identity") is None, "a service of docker-compose.prod.yml"
    done = stack.make("up", check=False)
    assert done.returncode != 0
    assert "runs in production" in done.stderr, "its volumes are those of production"
    stack.make("reset", YES="1")
    left = stack.docker("volume", "ls", "--quiet", "--filter", f"label=com.docker.compose.project={stack.project}")
    assert left.stdout == ""
