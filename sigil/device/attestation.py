"""The port of what attests a device's key: a phone's hardware, or in tests `sigil.device.test_phone`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from sigil.protocol.keys import PublicKey

DigestFor = Callable[[str, str], bytes]
"""attest_digest (32 bytes) for the `kind` of a statement and its member `key`: "" when the attested certificate holds
the signing key itself, else device_public_key. Context, nonce and server_id are the caller's."""


class Attester(Protocol):
    """Attests one device's key. Raises DeviceError when it cannot."""

    def statement(self, digest_for: DigestFor, device: PublicKey, *, renewal: bool = False) -> dict[str, Any]:
        """The member `attestation` of the wire, for the key `device`. `renewal`: the device has a credential for this
        key, so that a shorter statement may do (apple-assertion).
        """
        ...
