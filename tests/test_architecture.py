"""The directions of docs/architecture.md, read from the tree: which package may import which, what stays pure."""

from __future__ import annotations

import ast
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# What each package of sigil may import of the others. `__version__` is free to all.
SIGIL: dict[str, set[str]] = {
    "__main__": {"cli"},
    "cli": {
        "android_status", "app", "attestation", "config", "console", "device", "doctor", "preflight", "protocol", "sdk",
        "serving", "status", "webhooks",
    },
    "doctor": {
        "android_status", "app", "attestation", "config", "console", "core", "preflight", "protocol", "pushes",
        "serving", "webhooks",
    },
    "preflight": {"app", "attestation", "config", "console", "protocol", "serving"},
    "app": {
        "android_status", "approvals", "attestation", "challenges", "config", "core", "delivery", "enrolment",
        "first_boot", "inbox", "protocol", "pushes", "resources", "serving", "sessions", "store", "telemetry",
        "webhooks",
    },
    "resources": {
        "approvals", "attestation", "challenges", "enrolment", "first_boot", "inbox", "protocol", "serving", "sessions",
    },
    "inbox": {"approvals", "challenges", "core", "protocol", "sessions"},
    "pushes": {"approvals", "challenges", "core", "delivery", "protocol"},
    "webhooks": {"core", "delivery", "protocol", "serving"},
    "challenges": {"attestation", "core", "protocol", "sessions"},
    "enrolment": {"core", "protocol", "sessions"},
    "approvals": {"attestation", "core", "delivery", "protocol", "sessions"},
    "telemetry": {"attestation", "core", "protocol", "serving"},
    "sessions": {"core", "protocol"},
    "delivery": {"core"},
    "first_boot": {"console", "protocol", "serving"},
    "status": {"config", "console", "protocol", "serving"},
    "config": {"attestation", "protocol", "serving"},
    "attestation": {"protocol"},
    "store": {"core", "serving"},
    "android_status": {"attestation", "serving"},
    "core": {"protocol"},
    "serving": {"console", "protocol"},
    "device": {"console", "protocol"},
    "console": set(),
    "sdk": {"protocol"},
    "protocol": set(),
    "pages": set(),
}  # fmt: skip
RELAY: dict[str, set[str]] = {
    "__main__": {"cli"},
    "cli": {"address", "app", "config", "doctor", "registry", "web_push_settings"},
    "doctor": {"address", "app", "config", "registry", "transports", "web_push_settings"},
    "app": {
        "address", "config", "metrics", "pushes", "registration", "registry", "resources", "sockets", "tracing",
        "transports",
    },
    "resources": {"pushes", "registration", "sockets", "tracing"},
    "pushes": {"registry", "tracing", "transports"},
    "sockets": {"registration", "registry", "tracing"},
    "tracing": {"registry"},
    "registration": {"registry", "web_push_settings"},
    "metrics": {"transports"},
    "transports": {"credentials", "web_push_settings"},
    "config": {"address", "credentials", "web_push_settings"},
    "address": set(),
    "registry": set(),
    "credentials": set(),
    "web_push_settings": set(),
}  # fmt: skip
# Adapters: one file, one outside thing. The composition root plugs them in, and no service knows them.
ADAPTERS = ("sigil.store", "sigil.pushes.relay_client", "sigil.webhooks.sender", "sigil.first_boot.vault")
# A fault of one of these libraries is mended in one place.
LIBRARIES = {
    "httpx": {"relay.transports.token_endpoint"},
    "aioapns": {"relay.transports.apns"},
    "h2": {"relay.transports.http2"},
}
IMPURE = {
    "asyncio", "time", "datetime", "random", "secrets", "socket", "os", "logging", "httpx", "pathlib", "threading",
}  # fmt: skip
PURE_TIME = {"gmtime", "strftime", "strptime"}


@cache
def _modules() -> dict[str, ast.Module]:
    files = [path for package in ("sigil", "relay") for path in sorted((ROOT / package).rglob("*.py"))]
    return {
        ".".join(path.relative_to(ROOT).with_suffix("").parts): ast.parse(path.read_text(encoding="utf-8"))
        for path in files
    }


def _imports(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            # `from sigil.core import expiry` imports a module, `from sigil.core.expiry import sweep` a name of it.
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _edges() -> Iterator[tuple[str, str]]:
    """Every import of ours, as (module, imported name)."""
    for module, tree in _modules().items():
        for name in _imports(tree):
            if name.split(".")[0] in {"sigil", "relay"} and not name.endswith(".__version__"):
                yield module, name


def _package(dotted: str) -> str:
    return dotted.split(".")[1]


@pytest.mark.parametrize(("service", "may_import"), [("sigil", SIGIL), ("relay", RELAY)])
def test_every_import_between_packages_points_in_a_permitted_direction(
    service: str, may_import: dict[str, set[str]]
) -> None:
    wrong = [
        f"{module} imports {name}"
        for module, name in _edges()
        if module.startswith(f"{service}.") and name.startswith(f"{service}.")
        if _package(name) not in may_import[_package(module)] | {_package(module)}
    ]
    assert not wrong
    used = {(_package(module), _package(name)) for module, name in _edges() if module.startswith(f"{service}.")}
    # The command line imports the groups of the device by name, when one of them is used.
    unused = {(package, other) for package in may_import for other in may_import[package]} - used - {("cli", "device")}
    assert not unused, "a direction without an import is deleted"


def test_the_directions_name_every_package_and_have_no_circle() -> None:
    for service, may_import in (("sigil", SIGIL), ("relay", RELAY)):
        found = {_package(module) for module in _modules() if module.startswith(f"{service}.")} - {"__init__"}
        assert found == set(may_import) - {"pages"}
        order: list[str] = []
        while len(order) < len(may_import):
            free = [name for name in may_import if name not in order and may_import[name] <= set(order)]
            assert free, f"a circle among {set(may_import) - set(order)}"
            order += free


def test_sigil_never_imports_relay_and_relay_imports_only_what_services_share() -> None:
    for module, name in _edges():
        if module.startswith("sigil."):
            assert name.startswith("sigil."), module
        elif name.startswith("sigil."):
            assert _package(name) in {"console", "protocol", "serving"}, f"{module} imports {name}"


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_adapters_are_imported_by_the_composition_root_alone(adapter: str) -> None:
    importers = {module for module, name in _edges() if name.startswith(adapter) and not module.startswith(adapter)}
    assert importers
    assert all(module.startswith("sigil.app.") for module in importers)


def test_each_transport_is_imported_by_the_composition_root_alone() -> None:
    for module, name in _edges():
        if name.startswith("relay.transports.") and len(name.split(".")) > 3:
            assert module == "relay.app.wiring" or module.startswith("relay.transports"), f"{module} imports {name}"


def test_serving_http_may_import_serving_process_and_never_the_other_way() -> None:
    for module, name in _edges():
        if module.startswith("sigil.serving.process."):
            assert not name.startswith("sigil.serving.http."), f"{module} imports {name}"


def test_packages_import_nothing_by_themselves() -> None:
    """aiohttp loads only where WEBHOOK_URL is set, and prometheus_client only in workers."""
    public = {"sigil.sdk.__init__", "sigil.device.__init__", "sigil.device.relay.__init__"}
    for module, tree in _modules().items():
        if module.startswith("sigil.") and module.endswith(".__init__") and module not in public:
            names = [name for name in _imports(tree) if not name.startswith("__future__")]
            assert not names or module in {"sigil.cli.__init__", "sigil.device.commands.__init__"}, module


def test_aiohttp_is_imported_for_webhooks_alone_and_is_no_dependency_of_the_sdk() -> None:
    """docs/decisions/0028-two-http-clients.md"""
    importers = {module for module, tree in _modules().items() for name in _imports(tree) if name.startswith("aiohttp")}
    assert importers == {"sigil.cli.webhook_listener", "sigil.webhooks.sender"}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"] | {"": project["dependencies"]}
    assert [extra for extra, needed in extras.items() if any(name.startswith("aiohttp") for name in needed)] == [
        "server"
    ]


def test_libraries_with_known_faults_are_imported_in_one_place() -> None:
    for module, tree in _modules().items():
        for name in _imports(tree):
            library = name.split(".")[0]
            if module.startswith("relay.") and library in LIBRARIES:
                assert module in LIBRARIES[library], f"{module} imports {name}"


def test_protocol_core_and_attestation_take_time_and_randomness_as_arguments() -> None:
    """Formatting a given time is pure; reading the clock, the environment or random bytes is not."""
    for module, tree in _modules().items():
        if not module.startswith(("sigil.protocol.", "sigil.core.", "sigil.attestation.")):
            continue
        for name in _imports(tree):
            assert name.split(".")[0] not in IMPURE - {"time"}, f"{module} imports {name}"
        used = {
            node.attr
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "time"
        }
        assert used <= PURE_TIME, f"{module} uses time.{used - PURE_TIME}"


def test_the_environment_is_read_by_the_configuration_alone() -> None:
    """Other modules pass `os.environ` on to it, and the device has a home of its own."""
    for module in _modules():
        source = ROOT.joinpath(*module.split(".")).with_suffix(".py").read_text(encoding="utf-8")
        reads = "environ[" in source or "environ.get" in source or "getenv" in source
        readers = ("sigil.serving.settings", "sigil.config.", "relay.config", "sigil.device.", "sigil.sdk.")
        # OpenSSL reads its own.
        readers += ("sigil.serving.certificate_variables",)
        # What a terminal shows.
        readers += ("sigil.console.",)
        assert not reads or module.startswith(readers), module


def test_importing_the_protocol_needs_the_base_install_only() -> None:
    allowed = {"msgspec", "rfc8785", "coincurve", "nacl", "cryptography", "mnemonic", "sigil"}
    for module, tree in _modules().items():
        if module.startswith("sigil.protocol."):
            names = {name.split(".")[0] for name in _imports(tree)}
            assert names <= allowed | set(sys.stdlib_module_names), module
