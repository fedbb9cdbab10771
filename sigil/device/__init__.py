"""A complete software device: key, checks, key file and HTTP (docs/protocol.md, 1 to 5.2 and 6).

`Device`, `ServerPin`, `verify_info` and `verify_payload` are pure; `sigil.device.client` adds HTTP (`async_client` for
an event loop), `sigil.device.relay` pushes, `sigil.device.keyring` files, and `sigil.device.commands` the command line.
"""

from sigil.device.challenge_checks import ShownChallenge, verify_payload
from sigil.device.errors import DeviceError, IdentityRefused, PayloadRefused
from sigil.device.server_pin import ServerPin, verify_info
from sigil.device.software import Device

__all__ = [
    "Device",
    "DeviceError",
    "IdentityRefused",
    "PayloadRefused",
    "ServerPin",
    "ShownChallenge",
    "verify_info",
    "verify_payload",
]
