"""deploy/kubernetes: the manifests of the base, and the server run with what they give it."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import signal
import ssl
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from relay.config import load as load_relay
from sigil.config.settings import load as load_sigil
from sigil.protocol.identity import generate_mnemonic
from sigil.serving.settings import size
from sigil.serving.tls.self_signed import ensure_pair
from tests.config.test_settings import names_read_by
from tests.deploy.units import IS_ROOT, PROGRAMS, as_account
from tests.support.live import DEADLINE, wait_until
from tests.support.ports import free_port

FOLDER = Path(__file__).resolve().parents[2] / "deploy" / "kubernetes"
USER = 10001
KUSTOMIZE = next(
    (command for command in (["kubectl", "kustomize"], ["kustomize", "build"]) if shutil.which(command[0])), None
)

Manifest = dict[str, Any]


def manifests(*kinds: str) -> list[Manifest]:
    files = sorted(path for path in FOLDER.glob("*.yaml") if path.name != "kustomization.yaml")
    found = [document for file in files for document in yaml.safe_load_all(file.read_text(encoding="utf-8"))]
    return [document for document in found if not kinds or document["kind"] in kinds]


def manifest(kind: str, name: str) -> Manifest:
    (found,) = [document for document in manifests(kind) if document["metadata"]["name"] == name]
    return found


def pod(name: str) -> Manifest:
    spec: Manifest = manifest("Deployment", name)["spec"]["template"]["spec"]
    return spec


def settings_file(name: str) -> dict[str, str]:
    lines = (FOLDER / name).read_text(encoding="utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines)


WORKLOADS = manifests("Deployment", "StatefulSet")
NAMES = [workload["metadata"]["name"] for workload in WORKLOADS]


@pytest.mark.parametrize("workload", WORKLOADS, ids=NAMES)
def test_pods_are_confined(workload: Manifest) -> None:
    spec = workload["spec"]["template"]["spec"]
    assert spec["automountServiceAccountToken"] is False
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["runAsUser"] == spec["securityContext"]["fsGroup"] > 0
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in [*spec["containers"], *spec.get("initContainers", [])]:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert "memory" in container["resources"]["limits"]


@pytest.mark.parametrize("workload", WORKLOADS, ids=NAMES)
def test_no_service_sets_a_setting(workload: Manifest) -> None:
    """For the Service `sigil`, Kubernetes sets SIGIL_PORT=tcp://…, which is a setting of the server."""
    assert workload["spec"]["template"]["spec"]["enableServiceLinks"] is False


@pytest.mark.parametrize("workload", WORKLOADS, ids=NAMES)
def test_secrets_are_files_and_every_mount_has_its_volume(workload: Manifest) -> None:
    spec = workload["spec"]["template"]["spec"]
    volumes = {volume["name"]: volume for volume in spec["volumes"]}
    volumes |= {claim["metadata"]["name"]: {} for claim in workload["spec"].get("volumeClaimTemplates", [])}
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    for container in spec["containers"]:
        assert all("value" in variable for variable in container["env"])
        assert {mount["name"] for mount in container["volumeMounts"]} == volumes.keys()
        folders = [mount["mountPath"] for mount in container["volumeMounts"] if "secret" in volumes[mount["name"]]]
        files = [v["value"] for v in container["env"] if v["value"].startswith(("/run/secrets", "/var/lib/sigil"))]
        assert all(str(Path(file).parent) in folders for file in files)
    for volume in volumes.values():
        if "secret" in volume:
            # fsGroup makes the group the reader.
            assert volume["secret"]["defaultMode"] == 0o440
            assert f" {volume['secret']['secretName']} " in readme


@pytest.mark.parametrize(("name", "load"), [("sigil", load_sigil), ("relay", load_relay)])
def test_settings_exist(name: str, load: Any) -> None:
    (container,) = pod(name)["containers"]
    given = {variable["name"] for variable in container["env"]} | settings_file(f"{name}.env").keys()
    assert given <= names_read_by(load)
    assert container["envFrom"] == [{"configMapRef": {"name": f"{name}-settings"}}]


def test_one_server_has_the_sessions_in_memory() -> None:
    deployment, spec = manifest("Deployment", "sigil"), pod("sigil")
    assert (deployment["spec"]["replicas"], deployment["spec"]["strategy"]) == (1, {"type": "Recreate"})
    (state,) = [volume["emptyDir"] for volume in spec["volumes"] if volume["name"] == "state"]
    environ = {variable["name"]: variable["value"] for variable in spec["containers"][0]["env"]}
    assert state["medium"] == "Memory"
    memory = spec["containers"][0]["resources"]["limits"]["memory"]
    # Kubernetes writes MiB as Mi.
    assert size(environ["SIGIL_STORE_SIZE"]) < size(f"{state['sizeLimit']}B") < size(f"{memory}B")
    assert spec["terminationGracePeriodSeconds"] == 15


def test_probes_and_services_name_ports_that_exist() -> None:
    for service in manifests("Service"):
        name = service["metadata"]["name"]
        (workload,) = [w for w in WORKLOADS if w["metadata"]["name"] == name]
        template = workload["spec"]["template"]
        assert (
            service["spec"]["selector"] == template["metadata"]["labels"] == workload["spec"]["selector"]["matchLabels"]
        )
        ports = {port["name"]: port["containerPort"] for port in template["spec"]["containers"][0]["ports"]}
        assert {port["targetPort"]: port["port"] for port in service["spec"]["ports"]} == ports
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            action = template["spec"]["containers"][0].get(probe, {})
            for kind in ("httpGet", "tcpSocket"):
                assert action.get(kind, {}).get("port") in {None, *ports}
    http = pod("sigil")["containers"][0]["readinessProbe"]["httpGet"]
    assert http == {"path": "/health", "port": "https", "scheme": "HTTPS"}


def test_what_no_rule_names_is_closed_and_the_database_is_for_the_relay_alone() -> None:
    policies = {policy["metadata"]["name"]: policy["spec"] for policy in manifests("NetworkPolicy")}
    assert policies.keys() == {"closed", *NAMES}
    assert policies["closed"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    relay = {"podSelector": {"matchLabels": {"app.kubernetes.io/name": "relay"}}}
    assert policies["postgres"]["ingress"] == [{"from": [relay], "ports": [{"port": "postgres"}]}]
    assert "egress" not in policies["postgres"]


def test_the_base_has_every_file() -> None:
    kustomization = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())
    assert sorted([*kustomization["resources"], "kustomization.yaml"]) == sorted(p.name for p in FOLDER.glob("*.yaml"))
    for generated in kustomization["configMapGenerator"]:
        assert all((FOLDER / name).exists() for name in generated["envs"])


class Pod:
    """The server of the Deployment as a process, with directories that have the modes which kubelet gives them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        spec = pod("sigil")
        (container,) = spec["containers"]
        self.init = [self._placed(word) for word in spec["initContainers"][0]["command"]]
        given = settings_file("sigil.env") | {v["name"]: v["value"] for v in container["env"]}
        self.environ = {name: self._placed(value) for name, value in given.items()}
        self.environ |= {
            "PATH": os.environ["PATH"],
            "SIGIL_HOST": "127.0.0.1",
            "SIGIL_PORT": str(self.port),
            "SIGIL_STORE_SIZE": "128MiB",
            "SIGIL_WORKERS": "1",
        }
        # Directories of an emptyDir are 0777 with the group of fsGroup, files of a secret 0440.
        state = folder / "run" / "sigil"
        state.mkdir(parents=True)
        self._give_away(state)
        state.chmod(0o2777)
        self.certificate = Path(self.environ["TLS_CERT_PATH"])
        ensure_pair(self.certificate, Path(self.environ["TLS_KEY_PATH"]), generate=True)
        self.certificate.parent.chmod(0o755)
        for name, text in (("SIGIL_MNEMONIC_PATH", generate_mnemonic()), ("METRICS_TOKEN_FILE", "m" * 40)):
            file = Path(self.environ[name])
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        for file in [*self.certificate.parent.iterdir(), *Path(self.environ["METRICS_TOKEN_FILE"]).parent.iterdir()]:
            file.chmod(0o440)
            if IS_ROOT:
                os.chown(file, 0, USER)

    def _placed(self, text: str) -> str:
        return re.sub(r"^/(run|var/lib)/", rf"{self.folder}/\1/", text)

    def _give_away(self, path: Path) -> None:
        if IS_ROOT:
            os.chown(path, 0, USER)

    def start(self) -> subprocess.Popen[bytes]:
        command = as_account([str(PROGRAMS / "sigil"), "serve"], USER)
        with (self.folder / "log").open("ab") as log:
            return subprocess.Popen(command, env=self.environ, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def status(self, probe: str) -> int:
        """Of a probe, as kubelet sends it: without verification, to the address of the pod."""
        action = pod("sigil")["containers"][0][probe]["httpGet"]
        context = ssl.create_default_context(cafile=str(self.certificate))
        url = f"{action['scheme'].lower()}://127.0.0.1:{self.port}{action['path']}"
        try:
            return httpx.get(url, verify=context, trust_env=False, timeout=60).status_code
        except httpx.TransportError:
            return 0


@pytest.fixture
def server() -> Iterator[Pod]:
    folder = Path(tempfile.mkdtemp(prefix="sigil-pod-", dir="/dev/shm"))
    folder.chmod(0o755)
    try:
        yield Pod(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def test_the_server_runs_with_what_the_deployment_gives_it(server: Pod) -> None:
    # Without the init container it does not start in a directory that every user may write to.
    refused = server.start()
    assert refused.wait(DEADLINE) == 1
    # kubelet runs it again after a restart of the pod's sandbox.
    for _ in range(2):
        subprocess.run(as_account(server.init, USER), check=True, timeout=DEADLINE)
    process = server.start()
    try:
        wait_until(lambda: process.poll() is not None or server.status("startupProbe") == 200, "the startup probe")
        assert process.poll() is None, (server.folder / "log").read_text()
        assert server.status("readinessProbe") == server.status("livenessProbe") == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(DEADLINE) == 0
    finally:
        process.kill()
        process.wait(DEADLINE)


if KUSTOMIZE:

    def built(folder: Path) -> list[Manifest]:
        ran = subprocess.run([*KUSTOMIZE, str(FOLDER)], check=False, capture_output=True, text=True, timeout=120)
        assert (ran.returncode, ran.stderr) == (0, "")
        return list(yaml.safe_load_all(ran.stdout))

    def test_kustomize_builds_the_base(tmp_path: Path) -> None:
        found = built(tmp_path)
        assert len(found) == len(manifests()) + 2
        maps = {item["metadata"]["name"] for item in found if item["kind"] == "ConfigMap"}
        (sigil,) = [item for item in found if item["kind"] == "Deployment" and item["metadata"]["name"] == "sigil"]
        (container,) = sigil["spec"]["template"]["spec"]["containers"]
        assert container["envFrom"][0]["configMapRef"]["name"] in maps
        assert container["image"] == "sigil:local"


if importlib.util.find_spec("kubernetes_validate"):

    @pytest.mark.parametrize("document", manifests(), ids=lambda m: f"{m['kind']}-{m['metadata']['name']}")
    def test_manifests_follow_the_schemas_of_kubernetes(document: Manifest) -> None:
        import kubernetes_validate

        kubernetes_validate.validate(document, "1.25", strict=True)
        kubernetes_validate.validate(document, "1.37", strict=True)
