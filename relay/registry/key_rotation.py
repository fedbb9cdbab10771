"""Key rotation: one pass reseals all tokens with a new TOKEN_ENCRYPTION_KEY; then the old key can be removed."""

from __future__ import annotations

from relay.registry.port import DeviceRegistry
from relay.registry.sealing import Sealer, Unsealable
from sigil.serving import logs

_BATCH = 200


async def reseal_tokens(registry: DeviceRegistry, sealer: Sealer) -> int:
    """Reseal every token that is not sealed with the newest key; returns the number.

    Payloads are not resealed: they soon expire.
    """
    after, resealed, broken = b"", 0, 0
    while devices := await registry.devices(after, _BATCH):
        for device in devices:
            # An evicted device has no token.
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
        logs.error(
            "tokens_cannot_be_opened",
            count=broken,
            message="sealed with a key that TOKEN_ENCRYPTION_KEY no longer has",
        )
    return resealed
