"""What the device imports: the protocol and what commands share. Its pure part needs neither HTTP nor a terminal."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import sigil.device

HERE = Path(sigil.device.__file__).parent
FILES = sorted(HERE.rglob("*.py"))
PURE = {
    "__init__.py",
    "approval_checks.py",
    "attestation.py",
    "challenge_checks.py",
    "display.py",
    "errors.py",
    "events.py",
    "frames.py",
    "origin.py",
    "pending.py",
    "push_handler.py",
    "recent.py",
    "server_pin.py",
    "software.py",
    "steps.py",
    "target.py",
}


def imported(file: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module or "")
    return names


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(HERE)))
def test_a_file_of_the_device_imports_only_permitted_modules(file: Path) -> None:
    names = imported(file)
    ours = {name for name in names if name.startswith("sigil.")}
    assert all(name.startswith(("sigil.console", "sigil.protocol", "sigil.device")) for name in ours)
    in_commands = "commands" in file.relative_to(HERE).parts
    assert in_commands or "click" not in names
    if file.name in PURE and not in_commands:
        assert not names & {"httpx", "os", "time", "pathlib", "sigil.device.http.connection", "sigil.device.keyring"}


def test_only_the_connection_itself_needs_websockets() -> None:
    using = [file for file in FILES if any(name.partition(".")[0] == "websockets" for name in imported(file))]
    assert [str(file.relative_to(HERE)) for file in using] == ["relay/socket.py"]
