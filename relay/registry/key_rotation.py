"""A new TOKEN_ENCRYPTION_KEY reaches what the old one sealed: after one pass the old key can go."""

from __future__ import annotations

from relay.registry.port import DeviceRegistry
from relay.registry.sealing import Sealer, Unsealable
from sigil.serving import logs

_BATCH = 200


async def reseal_tokens(registry: DeviceRegistry, sealer: Sealer) -> int:
    """Seal every token anew that the newest key did not seal; how many. Payloads are not worth it: they soon expire."""
    after, resealed, broken = b"", 0, 0
    while devices := await registry.devices(after, _BATCH):
        for device in devices:
            # Of one that was evicted there is none any more.
            if device.evicted is not None or not sealer.needs_reseal(device.token):
                continue
            try:
                token = sealer.open("token", device.fingerprint, device.platform, device.token)
            except Unsealable:
                broken += 1
                continue
            new = sealer.seal("token", device.fingerprint, device.platform, token)
            resealed += await registry.reseal(device.fingerprint, device.token, new)
        after = devices[-1].fingerprint
    if resealed:
        logs.info("tokens_resealed", count=resealed)
    if broken:
        logs.error("tokens_cannot_be_opened", count=broken, message="sealed with a key that is not here any more")
    return resealed
