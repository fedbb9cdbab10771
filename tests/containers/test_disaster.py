"""A lost host: a new stack, from the mnemonic and a backup alone, is the same server to backends and devices."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sigil.device import Device
from tests.containers.production import RELAY_URL, Listening, Production, while_listening
from tests.containers.stack import V1, V2
from tests.flows.backend import Backend, approval
from tests.relay.devices_of_relay import register
from tests.support.live import wait_until


async def pushed(stack: Production, listening: Listening) -> dict[str, Any]:
    """A challenge of the first device, after its push has arrived."""
    created: dict[str, Any] = await asyncio.to_thread(create, stack, listening.devices[0])
    while not listening.has_push_of(created):
        await asyncio.sleep(0.05)
    return created


def create(stack: Production, device: Device) -> dict[str, Any]:
    with Backend(stack) as backend:  # type: ignore[arg-type]
        return backend.create_challenge(device)


def await_push(stack: Production, device: Device) -> None:
    """A challenge of a device of FCM: its push needs the token, which the relay opens with its key."""
    with Backend(stack) as backend:  # type: ignore[arg-type]
        created = backend.create_challenge(device)
        wait_until(lambda: backend.status(created)["push"]["status"] != "queued", "the outcome of the push")
        assert backend.status(created)["push"]["status"] == "delivered", backend.status(created)


def webpush_key(stack: Production) -> str:
    """Every subscription of a browser ends with it."""
    return str(stack.exec("relay", "cat", "/run/relay-secrets/webpush_key").stdout)


class Lost:
    """What is left of a stack that was destroyed, in a folder outside of it."""

    def __init__(self, folder: Path, compose: str) -> None:
        with Production(folder / "lost", compose, RELAY_PUSH_CONSOLE="true") as stack:
            stack.make("prod")
            self.mnemonic = stack.mnemonic.read_text(encoding="ascii")
            self.identity = stack.identity()
            self.api_key = stack.make_api_key()

            async def enrol(listening: Listening) -> Device:
                await pushed(stack, listening)
                return listening.devices[0]

            self.device = while_listening(stack, None, enrol)
            self.phone = Device.generate("ES256")
            with stack.relay_client() as relay:
                register(self.phone, relay, RELAY_URL, "fcm", "token-of-the-phone")
            await_push(stack, self.phone)
            self.printed = stack.make("backup").stdout
            (made,) = (stack.folder / "backups").iterdir()
            self.modes = {path.name: path.stat().st_mode & 0o777 for path in [made, *made.iterdir()]}
            self.backup = folder / made.name
            shutil.copytree(made, self.backup)
            written = "".join(path.read_text(encoding="latin-1") for path in self.backup.iterdir())
            self.webpush_key = webpush_key(stack)
            for key in (stack.exec("relay", "cat", "/run/relay-secrets/token_encryption_key").stdout, self.webpush_key):
                assert key not in written
            found = stack.docker("volume", "ls", "--quiet", "--filter", stack._label()).stdout.split()
        left = stack.docker("volume", "ls", "--quiet").stdout.split()
        assert found
        assert not set(found) & set(left)


@pytest.fixture(scope="module")
def lost(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Lost, Production]]:
    """What is left, and a new stack with its mnemonic, on a host with another version of Compose."""
    folder = tmp_path_factory.mktemp("disaster")
    left = Lost(folder, V1)
    with Production(folder / "new", V2, mnemonic=left.mnemonic, RELAY_PUSH_CONSOLE="true") as stack:
        stack.make("prod")
        stack.api_key = left.api_key
        yield left, stack


def test_a_backup_is_for_its_owner_alone_and_names_its_other_half(lost: tuple[Lost, Production]) -> None:
    left, _ = lost
    assert left.modes == {
        left.backup.name: 0o700, "manifest": 0o600, "relay.dump": 0o600, "token_encryption_key.sealed": 0o600,
        "webpush_key.sealed": 0o600,
    }  # fmt: skip
    assert "2 devices" in left.printed
    assert "The mnemonic is the other half" in left.printed


def test_a_new_stack_from_mnemonic_and_backup_is_the_same_server(lost: tuple[Lost, Production]) -> None:
    left, stack = lost
    assert stack.identity() == left.identity
    assert webpush_key(stack) != left.webpush_key

    damaged = stack.folder / "damaged"
    shutil.copytree(left.backup, damaged)
    dump = (damaged / "relay.dump").read_bytes()
    (damaged / "relay.dump").write_bytes(dump[:-20] + bytes(20))
    refused = stack.make("restore", f"FILE={damaged}", check=False)
    assert refused.returncode != 0
    assert "relay.dump is damaged" in refused.stderr

    restored = stack.make("restore", f"FILE={left.backup}")
    assert "Restored 2 devices" in restored.stdout, restored.stdout + restored.stderr

    assert webpush_key(stack) == left.webpush_key

    async def answer(listening: Listening) -> dict[str, Any]:
        return await pushed(stack, listening)

    # The device does not register again.
    created = while_listening(stack, left.device, answer)
    with Backend(stack) as backend:  # type: ignore[arg-type]
        body = approval(left.device, created, created["match_code"])
        assert backend.http.post("/respond", json=body).status_code == 200
        assert backend.status(created)["status"] == "verified"

    await_push(stack, left.phone)

    again = stack.make("restore", f"FILE={left.backup}", check=False)
    assert again.returncode != 0
    assert "the database holds 2 devices: FORCE=1 replaces them" in again.stderr
    forced = stack.make("restore", f"FILE={left.backup}", "FORCE=1")
    assert "Restored 2 devices" in forced.stdout
    stack.wait_healthy("sigil", "relay")


def test_backups_of_one_second_are_two_backups(lost: tuple[Lost, Production]) -> None:
    _, stack = lost
    stack.host.run(["sh", "-c", "make backup & make backup; wait"], stack.folder)
    made = sorted((stack.folder / "backups").iterdir())
    assert [len(list(path.iterdir())) for path in made] == [4, 4], made


def test_a_backup_without_its_key_is_an_error(lost: tuple[Lost, Production]) -> None:
    _, stack = lost
    before = set((stack.folder / "backups").iterdir())
    stack.docker("pause", stack.container("sigil"))
    try:
        done = stack.make("backup", check=False)
    finally:
        stack.docker("unpause", stack.container("sigil"))
    assert done.returncode != 0
    assert "a key of the relay cannot be sealed" in done.stderr
    assert set((stack.folder / "backups").iterdir()) == before


def test_ctrl_c_in_a_restore_starts_the_relay_again(lost: tuple[Lost, Production]) -> None:
    left, stack = lost
    relay = stack.container("relay")

    def has_stopped() -> bool:
        return stack.docker("inspect", "--format", "{{.State.Running}}", relay).stdout.strip() == "false"

    with stack.host.running(["make", "restore", f"FILE={left.backup}", "FORCE=1"], stack.folder):
        wait_until(has_stopped, "the stop of the relay")
    stack.wait_healthy("relay")
    assert not (stack.folder / ".stack.lock").exists()
    stack.make("restore", f"FILE={left.backup}", "FORCE=1")
