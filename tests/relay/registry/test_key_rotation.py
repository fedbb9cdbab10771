"""Key rotation: one pass over all tokens after a change of TOKEN_ENCRYPTION_KEY, with a real registry."""

from __future__ import annotations

import hashlib

import pytest

from relay.registry.key_rotation import reseal_tokens
from relay.registry.model import Device
from relay.registry.sealing import Sealer
from relay.registry.sqlite.registry import SqliteRegistry

OLD, NEW, LOST = (f"{name}-key-0123456789abcdef0123456789abcdef" for name in ("old", "new", "lost"))


async def registered(registry: SqliteRegistry, name: str, key: str) -> Device:
    fingerprint = hashlib.sha256(name.encode()).digest()
    device = Device(fingerprint, b"key", "fcm", Sealer([key]).seal("token", fingerprint, "fcm", name.encode()), 100)
    await registry.register(device)
    return device


async def test_after_a_pass_every_token_opens_with_the_new_key_alone(registry: SqliteRegistry) -> None:
    old, new = await registered(registry, "old", OLD), await registered(registry, "new", NEW)
    assert await reseal_tokens(registry, Sealer([NEW, OLD])) == 1
    for device, token in ((old, b"old"), (new, b"new")):
        found = await registry.device(device.fingerprint)
        assert found is not None
        assert Sealer([NEW]).open("token", device.fingerprint, "fcm", found.token) == token


async def test_a_token_of_a_removed_key_is_reported_and_left_unchanged(
    registry: SqliteRegistry, capfd: pytest.CaptureFixture[str]
) -> None:
    device = await registered(registry, "phone", LOST)
    assert await reseal_tokens(registry, Sealer([NEW, OLD])) == 0
    assert "tokens_cannot_be_opened" in capfd.readouterr().out
    assert await registry.device(device.fingerprint) == Device(
        device.fingerprint, b"key", "fcm", device.token, 100, seen_at=100
    )


async def test_an_evicted_device_without_a_token_is_not_reported(
    registry: SqliteRegistry, capfd: pytest.CaptureFixture[str]
) -> None:
    device = await registered(registry, "phone", OLD)
    assert await registry.evict(device.fingerprint, "UNREGISTERED", device.token, 200)
    assert await reseal_tokens(registry, Sealer([NEW, OLD])) == 0
    assert "tokens_cannot_be_opened" not in capfd.readouterr().out
