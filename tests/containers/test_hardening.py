"""What a container may do, by `docker inspect` and from inside."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.containers.installation import Installation

OURS = ("sigil", "relay")
RUNNING = (*OURS, "postgres", "state")
ALL = (*RUNNING, "setup")
POSTGRES_CAPABILITIES = {"CHOWN", "DAC_OVERRIDE", "FOWNER", "SETGID", "SETUID"}


@pytest.mark.parametrize("service", ALL)
def test_every_container_is_read_only_without_capabilities_and_new_privileges(
    stack: Installation, service: str
) -> None:
    found = stack.inspect(service)
    host = found["HostConfig"]
    assert host["ReadonlyRootfs"]
    assert not host["Privileged"]
    assert host["CapDrop"] == ["ALL"]
    assert {name.removeprefix("CAP_") for name in host["CapAdd"] or []} == (
        POSTGRES_CAPABILITIES if service == "postgres" else set()
    )
    assert [option.partition(":")[0] for option in host["SecurityOpt"]] == ["no-new-privileges"]
    assert host["Init"]
    assert host["PidMode"] == ""
    assert host["UsernsMode"] == ""
    assert host["IpcMode"] in ("private", "shareable")
    assert not host["Devices"]
    assert not [mount for mount in found["Mounts"] if "docker.sock" in mount["Source"]]


@pytest.mark.parametrize("service", ALL)
def test_logs_are_bounded_and_restarts_as_documented(stack: Installation, service: str) -> None:
    host = stack.inspect(service)["HostConfig"]
    assert host["LogConfig"] == {"Type": "json-file", "Config": {"max-size": "10m", "max-file": "5"}}
    assert host["RestartPolicy"]["Name"] == ("no" if service == "setup" else "unless-stopped")


@pytest.mark.parametrize("service", OURS)
def test_our_containers_run_as_10001_and_have_15_s_to_stop(stack: Installation, service: str) -> None:
    found = stack.inspect(service)
    assert found["Config"]["User"] == "10001:10001"
    assert found["Config"]["StopTimeout"] == 15


@pytest.mark.parametrize("service", OURS)
def test_the_kernel_sees_no_capability_a_filter_and_no_new_privileges(stack: Installation, service: str) -> None:
    text = stack.exec(service, "cat", "/proc/self/status").stdout
    status = dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)
    assert status["Uid"].split() == ["10001"] * 4
    for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(status[name], 16) == 0, name
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")


@pytest.mark.parametrize("service", OURS)
def test_nothing_can_be_written_except_memory_and_volumes(stack: Installation, service: str) -> None:
    for folder in ("/", "/opt/sigil", "/etc", "/usr/bin", f"/run/{service}-secrets"):
        assert stack.exec(service, "touch", f"{folder}/x", check=False).returncode != 0, folder
    assert stack.exec(service, "touch", "/tmp/x", check=False).returncode == 0


def test_postgres_runs_as_its_own_user_and_only_its_own_network_reaches_it(stack: Installation) -> None:
    users = {
        row.split()[0]
        for row in stack.docker("top", stack.container("postgres"), "-o", "user:20,pid,args").stdout.splitlines()[1:]
        if "postgres" in row and "docker-init" not in row
    }
    assert "root" not in users
    assert [name.rpartition("db")[1] for name in stack.inspect("postgres")["NetworkSettings"]["Networks"]] == ["db"]
    for network in stack.inspect("postgres")["NetworkSettings"]["Networks"]:
        (found,) = json.loads(stack.docker("network", "inspect", network).stdout)
        assert found["Internal"]
    assert not [name for name in stack.inspect("sigil")["NetworkSettings"]["Networks"] if name.endswith("db")]


def test_each_service_sees_the_secrets_that_it_needs(stack: Installation) -> None:
    mounts = {service: {mount["Destination"] for mount in stack.inspect(service)["Mounts"]} for service in RUNNING}
    assert "/run/relay-secrets" not in mounts["sigil"] | mounts["state"]
    assert "/run/sigil-secrets" not in mounts["relay"] | mounts["postgres"] | mounts["state"]


def test_secret_files_belong_to_their_reader_alone(stack: Installation) -> None:
    for service in OURS:
        folder = f"/run/{service}-secrets"
        for name in stack.exec(service, "ls", folder).stdout.split():
            facts = stack.exec(service, "stat", "-c", "%u %a", f"{folder}/{name}").stdout.split()
            assert facts == ["10001", "400"], name
    assert stack.exec("sigil", "stat", "-c", "%u %a", "/run/sigil/state").stdout.split() == ["10001", "700"]
    assert stack.exec("sigil", "stat", "-c", "%u %a", "/var/lib/sigil/tls/key.pem").stdout.split() == ["10001", "600"]


def test_no_secret_is_in_settings_commands_logs_or_image_history(stack: Installation) -> None:
    secrets = [stack.words, stack.api_key, stack.session]
    for service in OURS:
        folder = f"/run/{service}-secrets"
        secrets += [
            stack.exec(service, "cat", f"{folder}/{name}").stdout
            for name in stack.exec(service, "ls", folder).stdout.split()
        ]
    assert len(secrets) == 9
    for service in ALL:
        found: dict[str, Any] = stack.inspect(service)
        history = stack.docker("history", "--no-trunc", "--format", "{{.CreatedBy}}", found["Image"]).stdout
        processes = stack.processes(service) if service in RUNNING else {}
        seen = json.dumps(found) + json.dumps(stack.image(service)) + history + str(processes) + stack.logs(service)
        assert not [index for index, secret in enumerate(secrets) if secret in seen], service


def test_the_memory_of_the_stack_is_reported(default_stack: Installation, figures: dict[str, str]) -> None:
    for service in RUNNING:
        found = default_stack.docker(
            "stats", "--no-stream", "--format", "{{.MemUsage}}", default_stack.container(service)
        )
        figures[f"memory of {service}"] = found.stdout.partition("/")[0].strip()
