"""The directions of docs/architecture.md, read from the tree: who may import whom, and what must stay pure."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = [name for name in ("sigil", "relay") if (ROOT / name / "__init__.py").exists()]

# Every part of sigil and what it may import of ours. A part is the first name after `sigil.`.
MAY_IMPORT: dict[str, set[str]] = {
    "__init__": set(),
    "__main__": {"cli"},
    "protocol": {"protocol"},
    "core": {"core", "protocol"},
    "serving": {"serving", "protocol"},
    "webhook_settings": {"serving", "protocol"},
    "config": {"serving", "webhook_settings"},
    "waiting": set(),
    "devices": {"protocol"},
    "challenge_messages": {"core", "protocol"},
    "approval_messages": {"core", "protocol"},
    "outgoing": {"core"},
    "fan_outs": {"outgoing", "core"},
    "first_boot": {"core", "protocol"},
    "challenges": {"challenge_messages", "devices", "outgoing", "room", "undelivered", "waiting", "core", "protocol"},
    "approval_drafts": {"devices", "outgoing", "core", "protocol"},
    "approval_register": {"room", "core", "protocol"},
    "approvals": {
        "approval_drafts", "approval_messages", "approval_register", "devices", "fan_outs", "outgoing",
        "undelivered", "waiting", "core", "protocol",
    },
    "inbox": {"approval_messages", "challenge_messages", "devices", "core", "protocol"},
    "sweeper": {"fan_outs", "outgoing", "undelivered", "core"},
    "push_messages": {"approval_messages", "challenge_messages", "core", "protocol"},
    "outage_watch": {"outgoing", "core"},
    "relay_watch": {"outage_watch", "core"},
    "receiver_watch": {"outage_watch", "core"},
    "pushes": {"push_messages", "relay_watch", "core", "protocol"},
    "outbox_loop": {"outgoing", "pushes", "relay_watch", "under_way", "core"},
    "room": {"core", "protocol"},
    "undelivered": {"outgoing"},
    "webhook_messages": {"core", "protocol"},
    "webhooks": {"webhook_messages", "receiver_watch", "core", "protocol"},
    "under_way": set(),
    "webhook_loop": {"outgoing", "under_way", "webhooks", "receiver_watch", "core"},
    "journal": {"webhook_messages", "core", "protocol", "serving"},
    "metrics": {"core", "protocol", "serving"},
    "resources": {
        "resources", "approvals", "challenges", "first_boot", "inbox", "waiting", "core", "protocol", "serving",
    },
    "pages": set(),
    "store": {"store", "core", "protocol"},
    "outbound": {"outbound", "pushes", "webhooks", "core", "serving", "protocol"},
    "worker": {"serving", "fan_outs", "sweeper", "waiting", "outbox_loop", "webhook_loop", "core"},
    "state": {"config", "core", "serving", "store"},
    "telling": {"journal", "metrics", "core"},
    "assembly": {
        "__init__", "config", "core", "protocol", "serving", "outbound", "worker", "challenges", "challenge_messages",
        "approvals", "approval_drafts", "approval_messages", "approval_register", "devices", "fan_outs", "inbox",
        "sweeper", "waiting", "outgoing", "push_messages", "pushes", "relay_watch", "outbox_loop", "journal", "metrics",
        "receiver_watch", "room", "telling", "undelivered", "webhooks", "webhook_loop", "webhook_settings",
    },
    "app": {
        "__init__", "assembly", "config", "core", "first_boot", "metrics", "protocol", "resources", "serving", "state",
        "waiting", "worker",
    },
    "first_boot_app": {
        "__init__", "app", "config", "core", "first_boot", "metrics", "protocol", "resources", "serving", "store",
    },
    "commissioning": {"app", "config", "core", "first_boot_app", "protocol", "serving", "state", "store"},
    "server": {"__init__", "app", "commissioning", "config", "protocol", "serving", "state"},
    "webhook_failures": {"webhook_messages", "core", "protocol"},
    "cli": {
        "__init__", "cli", "server", "commissioning", "assembly", "config", "state", "webhook_failures",
        "webhook_settings", "protocol", "device", "sdk", "serving",
    },
    "device": {"__init__", "device", "protocol"},
    "sdk": {"sdk", "protocol"},
}  # fmt: skip
# Plugged in by the composition root, and known to nobody else.
PLUGGED_IN = {"store": {"state", "commissioning", "first_boot_app", "store"}, "outbound": {"assembly", "outbound"}}
PURE = ("protocol", "core")
IMPURE = {
    "asyncio",
    "time",
    "datetime",
    "random",
    "secrets",
    "socket",
    "os",
    "logging",
    "httpx",
    "pathlib",
    "threading",
}
PURE_TIME = {"gmtime", "strftime", "strptime"}


@cache
def _modules() -> list[tuple[str, Path, ast.Module]]:
    return list(_read_modules())


def _read_modules() -> Iterator[tuple[str, Path, ast.Module]]:
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            dotted = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            yield dotted, path, ast.parse(path.read_text(encoding="utf-8"))


def _imports(tree: ast.Module) -> Iterator[tuple[str, ast.AST]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            module = node.module or ""
            # `from sigil import journal` imports the module sigil.journal, `from sigil import __version__` a name.
            if module in PACKAGES:
                yield from ((f"{module}.{alias.name}", node) for alias in node.names)
            else:
                yield module, node


def _part(dotted: str) -> str:
    parts = dotted.split(".")
    if len(parts) == 1 or parts[1] == "__version__":
        return "__init__"
    return parts[1]


def test_every_import_points_in_a_permitted_direction() -> None:
    wrong = [
        f"{dotted} imports {name}"
        for dotted, _, tree in _modules()
        if dotted.startswith("sigil.")
        for name, _ in _imports(tree)
        if name.split(".")[0] == "sigil" and _part(name) not in MAY_IMPORT[_part(dotted)]
    ]
    assert not wrong


def test_every_part_of_sigil_has_its_directions_written_down() -> None:
    parts = {_part(dotted) for dotted, _, _ in _modules() if dotted.startswith("sigil.")}
    assert parts <= set(MAY_IMPORT)


def test_sigil_never_imports_relay_and_relay_only_what_both_share() -> None:
    for dotted, _, tree in _modules():
        for name, _ in _imports(tree):
            if dotted.startswith("sigil."):
                assert name.split(".")[0] != "relay", dotted
            elif name.split(".")[0] == "sigil":
                assert _part(name) in {"__init__", "protocol", "serving"}, f"{dotted} imports {name}"


def test_transports_are_plugged_into_the_relay_and_know_credentials_alone() -> None:
    for dotted, _, tree in _modules():
        names = {name for name, _ in _imports(tree) if name.startswith("relay.")}
        if dotted.startswith("relay.transports."):
            assert all(name.startswith(("relay.transports", "relay.credentials")) for name in names), dotted
        elif dotted.startswith("relay.") and dotted != "relay.app":
            assert not any(name.startswith("relay.transports.") for name in names), dotted


def test_libraries_that_are_worked_around_are_imported_in_one_place() -> None:
    """A fault of theirs has one place to be mended; the command line asks for health with httpx."""
    users = {
        "httpx": {"relay.transports.fcm_api", "relay.cli.commands"},
        "aioapns": {"relay.transports.apns_protocol", "relay.transports.apns"},
        "h2": {"relay.transports.http2"},
    }
    for dotted, _, tree in _modules():
        for name, _ in _imports(tree):
            library = name.split(".")[0]
            if dotted.startswith("relay.") and library in users:
                assert dotted in users[library], f"{dotted} imports {name}"


@pytest.mark.parametrize("plugged", sorted(PLUGGED_IN))
def test_what_is_plugged_in_is_imported_by_the_composition_root_alone(plugged: str) -> None:
    importers = {
        _part(dotted)
        for dotted, _, tree in _modules()
        for name, _ in _imports(tree)
        if name.startswith(f"sigil.{plugged}")
    }
    assert importers <= PLUGGED_IN[plugged]


def test_protocol_and_core_take_time_and_randomness_as_arguments() -> None:
    """Formatting a given time is pure; asking for the time, the environment or random bytes is not."""
    for dotted, _, tree in _modules():
        if not dotted.startswith(tuple(f"sigil.{part}." for part in PURE)):
            continue
        for name, _ in _imports(tree):
            assert name.split(".")[0] not in IMPURE - {"time"}, f"{dotted} imports {name}"
        asked = {
            node.attr
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "time"
        }
        assert asked <= PURE_TIME, f"{dotted} uses time.{asked - PURE_TIME}"


def test_the_environment_is_read_by_the_configuration_alone() -> None:
    """Others hand `os.environ` on to it, and the device has a home of its own."""
    for dotted, path, _ in _modules():
        source = path.read_text(encoding="utf-8")
        reads = "environ[" in source or "environ.get" in source or "getenv" in source
        reader = dotted == "sigil.serving.settings" or _part(dotted) in {"config", "device", "sdk"}
        assert not reads or reader, dotted


def test_importing_the_protocol_needs_the_base_install_only() -> None:
    allowed = {"msgspec", "rfc8785", "coincurve", "nacl", "cryptography", "mnemonic", "sigil", "httpx"}
    import sys

    for dotted, _, tree in _modules():
        if dotted.startswith("sigil.protocol"):
            names = {name.split(".")[0] for name, _ in _imports(tree)}
            assert names <= allowed | sys.stdlib_module_names, dotted
