"""What is in the two images, and what is not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.containers.engine import parts
from tests.containers.installation import Installation
from tests.containers.stack import Host, copy_checkout

IMAGES = ("sigil:local", "sigil-relay:local")
MEGABYTES = 10**6
BUDGET = 110 * MEGABYTES
"""Of our layers, without those of the Python image."""
CANARY = "canary-5b1f0c7e"


@pytest.fixture(scope="module")
def host(default_stack: Installation) -> Host:
    """With the images that `make up` built."""
    return default_stack.host


def inside(host: Host, image: str, script: str) -> str:
    command = ["docker", "run", "--rm", "--user=0", "--network=none", "--entrypoint=sh", image, "-c", script]
    return host.run(command, Path("/")).stdout


def inspect(host: Host, image: str) -> dict[str, Any]:
    (found,) = json.loads(host.run(["docker", "image", "inspect", image], Path("/")).stdout)
    inspected: dict[str, Any] = found
    return inspected


def test_our_layers_are_within_the_budget_and_shared_by_both_images(host: Host, figures: dict[str, str]) -> None:
    base = inspect(host, "python:3.13-slim-trixie")
    layers = {image: inspect(host, image)["RootFS"]["Layers"] for image in IMAGES}
    for image in IMAGES:
        ours = inspect(host, image)["Size"] - base["Size"]
        figures[f"layers of {image}"] = f"{ours / MEGABYTES:.0f} MB"
        assert ours < BUDGET
        assert layers[image][: len(base["RootFS"]["Layers"])] == base["RootFS"]["Layers"]
    assert layers[IMAGES[0]] == layers[IMAGES[1]]


@pytest.mark.parametrize("image", IMAGES)
def test_an_image_starts_as_our_user_with_a_health_check(host: Host, image: str) -> None:
    config = inspect(host, image)["Config"]
    assert config["User"] == "10001:10001"
    assert config["Healthcheck"]["Test"][-1] == "health"
    assert config["StopSignal"] in ("SIGTERM", None)
    assert not config.get("Volumes"), "a VOLUME in an image makes an anonymous volume wherever it is not mounted"


@pytest.mark.parametrize("image", IMAGES)
def test_an_image_has_byte_code_and_neither_pip_nor_compilers_nor_caches_nor_debug_symbols(
    host: Host, image: str
) -> None:
    assert inside(host, image, "/opt/sigil/bin/python -m pip --version 2>&1 || true").strip().endswith("named pip")
    assert not inside(host, image, "command -v gcc cc ld strip make git curl || true")
    # dpkg and apt belong to the Python image; what `apt-get update` leaves would be ours.
    listed = inside(host, image, "ls /var/lib/apt/lists /var/cache/apt/archives /root/.cache 2>/dev/null || true")
    assert set(listed.split()) <= {"/var/lib/apt/lists:", "/var/cache/apt/archives:", "lock", "partial"}
    packages = "/opt/sigil/lib/python3*/site-packages"
    for name in ("sigil/app", "relay/app", "falcon", "msgspec"):
        assert inside(host, image, f"ls {packages}/{name}/__pycache__/*.pyc"), name
    sources = int(inside(host, image, f"find {packages}/sigil {packages}/relay -name '*.py' | wc -l"))
    compiled = int(inside(host, image, f"find {packages}/sigil {packages}/relay -name '*.pyc' | wc -l"))
    assert compiled == sources > 200
    header = f"for f in {packages}/sigil/__pycache__/__init__.*.pyc; do od -An -tu4 -j4 -N4 $f; done"
    assert inside(host, image, header).split() == ["1"], "hash-based, and unchecked: no start compares sources"


@pytest.mark.parametrize("image", IMAGES)
def test_an_image_has_only_the_packages_of_the_runtime_lock(host: Host, image: str) -> None:
    program = "import importlib.metadata as m; print('\\n'.join(d.name for d in m.distributions()))"
    found = {
        name.lower().replace("_", "-") for name in inside(host, image, f'/opt/sigil/bin/python -c "{program}"').split()
    }
    lock = (parts.ROOT / "requirements-runtime.lock").read_text(encoding="utf-8")
    pinned = {
        line.partition("==")[0].lower() for line in lock.splitlines() if "==" in line and not line.startswith("#")
    }
    assert found - {"sigil-auth"} <= pinned
    assert {"falcon", "granian", "msgspec", "uvloop", "lmdb", "asyncpg"} <= found


def build(host: Host, checkout: Path, image: str) -> None:
    host.run(["docker", "build", "--quiet", "--target=sigil", f"--tag={image}", "."], checkout, DOCKER_BUILDKIT="1")


@pytest.fixture(scope="module")
def with_canaries(host: Host, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An image from a checkout full of files that must stay out of it; `sigil:clean` is the one without them."""
    checkout = tmp_path_factory.mktemp("checkout") / "server"
    copy_checkout(checkout)
    build(host, checkout, "sigil:clean")
    for name in (
        ".env",
        ".env.prod",
        "mnemonic.txt",
        "apns-key.p8",
        ".git/config",
        ".dev/state",
        "deploy/secret",
        "docs/x.md",
    ):
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        (checkout / name).write_text(CANARY)
    image = "sigil:canaries"
    build(host, checkout, image)
    yield image
    host.run(["docker", "image", "rm", "--force", image, "sigil:clean"], checkout)


def test_files_of_the_checkout_that_are_not_the_product_stay_out(host: Host, with_canaries: str) -> None:
    assert not inside(host, with_canaries, f"grep -rl {CANARY} / --exclude-dir=proc --exclude-dir=sys || true")
    assert not inside(host, with_canaries, "find / -xdev \\( -name .git -o -name '.env*' \\)")
    packages = "/opt/sigil/lib/python3*/site-packages"
    names = ("tests", "test_*.py", "*_test.py", "conftest.py")
    ours = f"find {packages}/sigil {packages}/relay " + " -o ".join(f"-name '{name}'" for name in names)
    assert not inside(host, with_canaries, f"{ours}; ls -d /opt/sigil/tests {packages}/tests 2>/dev/null || true")


def test_a_build_with_the_same_sources_is_taken_from_the_cache(host: Host, with_canaries: str) -> None:
    """A canary that reached the context would change the layers. `sigil:local` may be another test's build by now."""
    assert inspect(host, with_canaries)["RootFS"]["Layers"] == inspect(host, "sigil:clean")["RootFS"]["Layers"]
