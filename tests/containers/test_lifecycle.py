"""What survives restarts, crashes and new images: pending challenges, the identity, registered devices."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.containers.installation import Installation, Phone
from tests.containers.stack import V2
from tests.support.live import wait_until


@contextlib.contextmanager
def survives(stack: Installation, phone: Phone) -> Iterator[None]:
    """A challenge that was created before the body is approved after it, by the server with the same identity."""
    path = stack.create(phone)
    yield
    # Not until the next health check, which is up to 10 s later.
    stack.wait_answering()
    wait_relay(stack)
    with stack.client() as client:
        info = client.get("/info").json()
    assert (info["mode"], info["server_id"]) == ("operational", stack.server_id)
    assert stack.status(path)["status"] == "pending"
    phone.approve(path)
    assert stack.final(path) == "verified"


def server_processes(stack: Installation, service: str = "sigil") -> tuple[int, list[int]]:
    """The master, and its workers."""
    table = stack.docker("top", stack.container(service), "-o", "pid,ppid,args").stdout.splitlines()[1:]
    rows = [(int(pid), int(parent), args) for pid, parent, args in (line.split(maxsplit=2) for line in table)]
    init = stack.inspect(service)["State"]["Pid"]
    (master,) = [pid for pid, parent, args in rows if parent == init]
    return master, [pid for pid, parent, args in rows if parent == master and "resource_tracker" not in args]


def wait_relay(stack: Installation) -> None:
    def answers() -> bool:
        with contextlib.suppress(httpx.HTTPError), stack.relay_client() as relay:
            return relay.get("/health").status_code == 200
        return False

    wait_until(answers, "the relay to answer")


def test_a_killed_worker(stack: Installation, phone: Phone) -> None:
    with survives(stack, phone):
        started = stack.inspect("sigil")["State"]["StartedAt"]
        _, workers = server_processes(stack)
        for pid in workers:
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: set(server_processes(stack)[1]) - set(workers), "a new worker")
    assert stack.inspect("sigil")["State"]["StartedAt"] == started


def test_a_crashed_server(stack: Installation, phone: Phone) -> None:
    with survives(stack, phone):
        before = stack.inspect("sigil")["RestartCount"]
        os.kill(server_processes(stack)[0], signal.SIGKILL)
        wait_until(lambda: stack.inspect("sigil")["RestartCount"] == before + 1, "the engine to start it again")


def test_a_restarted_server(stack: Installation, phone: Phone) -> None:
    with survives(stack, phone):
        stack.docker("restart", stack.container("sigil"))


def test_a_new_image(stack: Installation, phone: Phone, tmp_path: Path) -> None:
    image = f"sigil:{stack.project}"
    before = {service: stack.container(service) for service in ("sigil", "state")}
    with survives(stack, phone):
        (tmp_path / "Dockerfile").write_text("FROM sigil:local\nLABEL test=new\n")
        stack.docker("build", "--quiet", "--tag", image, str(tmp_path))
        stack.write_settings(SIGIL_IMAGE=image)
        stack.compose("up", "-d", "--no-build")
    assert stack.container("sigil") != before["sigil"]
    # The tmpfs of the sessions lives as long as this container. (Compose 2 recreates what depends on `setup`.)
    assert stack.container("state") == before["state"]
    assert stack.image("sigil")["Config"]["Labels"]["test"] == "new"


def test_a_crashed_relay_keeps_its_devices_and_trusted_servers(stack: Installation, phone: Phone) -> None:
    before = stack.inspect("relay")["RestartCount"]
    os.kill(server_processes(stack, "relay")[0], signal.SIGKILL)
    wait_until(lambda: stack.inspect("relay")["RestartCount"] == before + 1, "the engine to start it again")
    wait_relay(stack)
    with phone.listening("--auto-approve", "--once"):
        assert stack.final(stack.create(phone)) == "verified"


def test_a_stopped_database_delays_a_push(stack: Installation, phone: Phone) -> None:
    with phone.listening("--auto-approve", "--once"):
        stack.docker("stop", stack.container("postgres"))
        try:
            path = stack.create(phone)
            assert stack.status(path)["status"] == "pending"
        finally:
            stack.docker("start", stack.container("postgres"))
        assert stack.final(path) == "verified"


def test_health_goes_from_starting_to_healthy_and_to_unhealthy_when_the_server_hangs(
    default_stack: Installation,
) -> None:
    """Three checks of 10 s, each 10 s after the one before: a minute, so under one version of Compose alone."""
    stack = default_stack
    stack.wait_healthy("sigil")
    master, workers = server_processes(stack)
    for pid in (master, *workers):
        os.kill(pid, signal.SIGSTOP)
    try:
        wait_until(lambda: stack.health("sigil") == "unhealthy", "an unhealthy server")
    finally:
        for pid in (master, *workers):
            os.kill(pid, signal.SIGCONT)
    stack.wait_healthy("sigil")


def test_a_stop_is_orderly_and_within_the_grace_period(stack: Installation) -> None:
    for service in ("sigil", "relay"):
        stack.docker("stop", stack.container(service))
        assert stack.inspect(service)["State"]["ExitCode"] == 0, service
        stack.docker("start", stack.container(service))
    stack.wait_answering()
    wait_relay(stack)


@pytest.fixture(scope="module")
def own_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """For tests that take a stack down; each sets it up again."""
    with Installation(tmp_path_factory.mktemp("own"), V2) as stack:
        yield stack.set_up()


@pytest.mark.parametrize("target", ["down", "reset"])
def test_a_container_of_another_project_on_the_network_is_named_before_anything_stops(
    own_stack: Installation, target: str
) -> None:
    name = f"{own_stack.project}-proxy"
    options = ("--detach", "--name", name, "--label=com.docker.compose.project=caddy", "--entrypoint=sleep")
    own_stack.docker("run", *options, f"--network={own_stack.project}-edge", "sigil:local", "600")
    try:
        refused = own_stack.make(target, check=False, YES="1")
        assert refused.returncode != 0
        assert f"The network {own_stack.project}-edge is in use by {name}: stop its project first" in refused.stderr
        assert own_stack.health("sigil") == "healthy"
    finally:
        own_stack.docker("rm", "--force", name)


def test_down_keeps_the_volumes_and_the_next_up_restores_this_identity_alone(own_stack: Installation) -> None:
    token = own_stack.exec("sigil", "cat", "/run/sigil-secrets/metrics_token").stdout
    own_stack.make("down")
    assert not own_stack.find("sigil")
    again = own_stack.make("up").stdout
    assert own_stack.exec("sigil", "cat", "/run/sigil-secrets/metrics_token").stdout == token
    wizard = again[again.index("#token=") + 7 :].split()[0]
    with own_stack.client(headers={"Authorization": f"Bearer {wizard}"}) as client:
        assert client.get("/init/state").json()["restore_only"]["server_id"] == own_stack.server_id
        assert client.post("/init/commit", json={"words": own_stack.words}).status_code == 201
        assert client.get("/info").json()["server_id"] == own_stack.server_id
    assert own_stack.api_key
