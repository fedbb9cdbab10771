"""deploy/quadlet: the stack of the Compose files as units of Podman."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from relay.config import load as load_relay
from sigil.config.settings import load as load_sigil
from tests.config.test_settings import names_read_by
from tests.deploy.units import Unit, environment, unit

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "deploy" / "quadlet"
SERVICE_OF = {
    "sigil.container": "sigil",
    "sigil-relay.container": "relay",
    "sigil-postgres.container": "postgres",
    "sigil-setup.container": "setup",
    "sigil-identity.container": "identity",
    "sigil-state.container": "state",
}
# Podman of Debian; `QUADLET` names another one.
GENERATOR = os.environ.get("QUADLET") or shutil.which("quadlet", path="/usr/libexec/podman:/usr/lib/podman")
_VARIABLE = re.compile(r"\$\{\w+:?[-?]([^}]*)\}")


def compose() -> dict[str, Any]:
    """The services of the production stack, with the defaults of their variables."""
    found: dict[str, Any] = {}
    for name in ("docker-compose.yml", "docker-compose.prod.yml"):
        file = _with_defaults(yaml.safe_load((ROOT / name).read_text(encoding="utf-8")))
        for service, values in file["services"].items():
            known = found.setdefault(service, {})
            environ = known.get("environment", {}) | values.get("environment", {})
            lists = {key: [*known.get(key, []), *values.get(key, [])] for key in ("volumes", "ports")}
            known |= values | {"environment": environ} | lists
    return found


def _with_defaults(node: Any) -> Any:
    if isinstance(node, dict):
        return {key: _with_defaults(value) for key, value in node.items()}
    if isinstance(node, list):
        return [_with_defaults(value) for value in node]
    while isinstance(node, str) and _VARIABLE.search(node):
        node = _VARIABLE.sub(r"\1", node)
    return node


def quadlet(name: str) -> Unit:
    return unit(name, FOLDER)


def test_every_service_of_the_stack_has_a_container() -> None:
    names = {path.name for path in FOLDER.glob("*.container")}
    assert names == set(SERVICE_OF)
    # It runs the checks of `sigil preflight` once, by hand.
    assert set(compose()) - {"preflight"} == set(SERVICE_OF.values())


@pytest.mark.parametrize("name", SERVICE_OF)
def test_a_container_is_as_confined_as_the_service(name: str) -> None:
    values, service = quadlet(name), compose()[SERVICE_OF[name]]
    assert (values["ReadOnly"], values["NoNewPrivileges"], values["DropCapability"]) == (["true"], ["true"], ["all"])
    assert service["read_only"] is True
    assert " ".join(values["AddCapability"]).split() == service.get("cap_add", [])
    if name != "sigil-postgres.container":
        assert (values["User"], values["Group"]) == (["10001"], ["10001"])
    (arguments,) = values["PodmanArgs"]
    assert f"--memory={service['mem_limit']} --memory-swap={service['memswap_limit']}" in arguments
    assert values["PidsLimit"] == [str(service["pids_limit"])]
    assert values["Image"][0].rpartition("/")[2] == service["image"]


@pytest.mark.parametrize("name", SERVICE_OF)
def test_a_container_has_the_mounts_and_ports_of_the_service(name: str) -> None:
    values, service = quadlet(name), compose()[SERVICE_OF[name]]
    # The path in the container, and whether it is read-only.
    mounts = {tuple(volume.split(":")[1:]) for volume in values["Volume"]}
    assert mounts == {tuple(volume.split(":")[1:]) for volume in service["volumes"]}
    published = {(port.split(":")[0], port.split(":")[-1]) for port in values["PublishPort"]}
    assert published == {("127.0.0.1", port.split(":")[-1]) for port in service["ports"]}
    if name in {"sigil.container", "sigil-relay.container"}:
        assert f"ip={service['networks']['sigil-edge']['ipv4_address']}" in values["Network"][0]


@pytest.mark.parametrize(("name", "load"), [("sigil.container", load_sigil), ("sigil-relay.container", load_relay)])
def test_settings_exist_and_are_those_of_the_stack(name: str, load: Any) -> None:
    given, service = environment(quadlet(name)), compose()[SERVICE_OF[name]]["environment"]
    assert given.keys() <= names_read_by(load)
    assert given == {key: service[key] for key in given}


def test_the_database_is_that_of_the_stack() -> None:
    assert environment(quadlet("sigil-postgres.container")) == compose()["postgres"]["environment"]


def test_the_session_memory_is_that_of_the_stack_and_its_holder_takes_nothing_down() -> None:
    volume = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["volumes"]["state"]["driver_opts"]
    values = quadlet("sigil-state.volume")
    assert (values["Type"], values["Options"]) == ([volume["type"]], [volume["o"]])
    assert "sigil-state" not in " ".join(quadlet("sigil.container")["Requires"])


def test_the_mnemonic_belongs_to_the_user_of_the_server() -> None:
    for name in ("sigil.container", "sigil-identity.container"):
        assert quadlet(name)["Secret"] == ["sigil_mnemonic,type=mount,uid=10001,gid=10001,mode=0400"]


if GENERATOR:

    def test_the_generator_of_podman_takes_every_line() -> None:
        environ = {"PATH": os.environ["PATH"], "QUADLET_UNIT_DIRS": str(FOLDER)}
        ran = subprocess.run(
            [str(GENERATOR), "-dryrun"], env=environ, check=False, capture_output=True, text=True, timeout=120
        )
        complaints = [line for line in ran.stderr.splitlines() if "Loading source unit file" not in line]
        assert (ran.returncode, complaints) == (0, [])
        assert ran.stdout.count("ExecStart=/usr/bin/podman run ") == len(SERVICE_OF)
