"""`sigil device …`: a click group, `device`, for the `sigil` command to add."""

from sigil.device.commands.answer import approve, pending, reject, watch
from sigil.device.commands.context import DeviceGroup
from sigil.device.commands.enrol import forget, init, servers, whoami
from sigil.device.commands.enrolling.attest import attest
from sigil.device.commands.enrolling.enrol import enrol
from sigil.device.commands.listen import listen
from sigil.device.commands.relays import register, unregister

device = DeviceGroup(
    "device",
    help="A software device: holds a key, and shows and answers challenges.",
    commands=[
        *(init, enrol, attest, whoami, servers, forget),
        *(pending, approve, reject, watch, register, unregister, listen),
    ],
)

__all__ = ["device"]
