"""The development stack from `make up` to an approved challenge, under both versions of Compose."""

from __future__ import annotations

import json
import re
from pathlib import Path

import httpx
import pytest

from tests.containers.installation import WIZARD, Installation, Phone
from tests.support.live import wait_until


def test_make_up_prints_the_address_of_the_wizard_with_its_token(stack: Installation) -> None:
    assert stack.address.startswith(f"{stack.url}/init#token=")
    assert len(stack.address.partition("#token=")[2]) >= 32
    assert "arning" not in stack.started.stdout + stack.started.stderr


def test_the_server_is_operational_with_the_identity_of_the_wizard(stack: Installation) -> None:
    with stack.client() as client:
        info = client.get("/info").json()
        assert (info["mode"], info["server_id"]) == ("operational", stack.server_id)
        assert client.get("/health").json()["status"] == "healthy"
        assert client.get("/init").status_code == 404
    with stack.relay_client() as relay:
        assert relay.get("/health").json()["status"] == "healthy"


def test_a_push_reaches_a_device_whose_approval_reaches_the_backend(stack: Installation, phone: Phone) -> None:
    for _ in range(5):
        with phone.listening("--auto-approve", "--once") as listening:
            assert stack.final(stack.create(phone)) == "verified"
        # A challenge that the device fetched itself has none: it does so once, right after it has connected.
        if listening.events("challenge")[0]["push_id"]:
            return
    pytest.fail("the device fetched each challenge before its push came")


@pytest.mark.parametrize("service", ["sigil", "relay"])
def test_metrics_need_the_token_that_the_stack_made(stack: Installation, service: str) -> None:
    secret = stack.exec(service, "cat", f"/run/{service}-secrets/metrics_token").stdout
    assert re.fullmatch("[0-9a-f]{64}", secret)
    with stack.client() if service == "sigil" else stack.relay_client() as client:
        assert client.get("/metrics").status_code == 401
        answer = client.get("/metrics", headers={"Authorization": f"Bearer {secret}"})
    assert answer.status_code == 200
    assert f"{service}_" in answer.text


@pytest.mark.parametrize(("service", "program"), [("sigil", "sigil"), ("relay", "sigil-relay")])
def test_the_doctor_finds_no_fault_in_a_stack_that_works(stack: Installation, service: str, program: str) -> None:
    report = json.loads(stack.exec(service, program, "doctor", "--json", check=False).stdout)
    # The push services of browsers are those of their vendors, and this machine may have no network.
    own = [found for found in report["findings"] if found["name"] != "provider_webpush"]
    assert [found for found in own if found["state"] == "failed"] == []
    assert {"server", "workers", "registry", "permissions"} <= {found["name"] for found in report["findings"]}


def test_a_second_make_up_changes_nothing_and_says_that_the_server_is_set_up(stack: Installation) -> None:
    before = {service: stack.container(service) for service in ("sigil", "relay", "postgres", "state")}
    again = stack.make("up")
    assert {service: stack.container(service) for service in before} == before
    assert not WIZARD.search(again.stdout)
    assert stack.url in again.stdout


def test_make_ps_and_make_logs_show_the_services(stack: Installation) -> None:
    listed = stack.make("ps").stdout
    assert all(service in listed for service in ("sigil", "relay", "postgres"))
    with stack.host.running(["make", "logs"], stack.folder) as output:
        wait_until(lambda: "sigil_starting" in output.read_text(), "the server's log")


def test_make_reload_reads_certificates_and_keys_again_without_a_failed_request(stack: Installation) -> None:
    before = len(stack.events("sigil", "reload_finished"))
    stack.make("reload")
    # Each request on a connection of its own: a replaced worker closes those that were idle for a second.
    with stack.client(headers={"Connection": "close"}) as client:

        def reloaded() -> bool:
            assert client.get("/health").status_code == 200
            return len(stack.events("sigil", "reload_finished")) > before

        wait_until(reloaded, "the end of the reload")


def test_two_stacks_on_one_host_are_separate(default_stack: Installation, other_stack: Installation) -> None:
    assert default_stack.server_id != other_stack.server_id
    for stack, other in ((default_stack, other_stack), (other_stack, default_stack)):
        with other.client(headers={"Authorization": f"Bearer {stack.api_key}"}) as client:
            path = "/v1/auth/challenge/00000000-0000-4000-8000-000000000000/status"
            assert client.get(path).status_code == 401
        password = [one.exec("relay", "cat", "/run/relay-secrets/postgres_password").stdout for one in (stack, other)]
        assert password[0] != password[1]


def test_services_are_published_on_loopback_alone(stack: Installation, tmp_path: Path) -> None:
    for service, port in (("sigil", "8443/tcp"), ("relay", "8080/tcp")):
        (binding,) = stack.inspect(service)["NetworkSettings"]["Ports"][port]
        assert binding["HostIp"] == "127.0.0.1"
        assert int(binding["HostPort"]) in (stack.port, stack.relay_port)
    assert not stack.inspect("postgres")["HostConfig"]["PortBindings"]
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"http://10.0.2.100:{stack.relay_port}/health", trust_env=False)
