"""The number of registrations that the relay stores: any client can register, and a registration is kept for months."""

from __future__ import annotations

from sigil.protocol.errors import Overloaded
from sigil.serving import logs

_UNUSED_SHARE = 10
_HISTORY_SHARE = 10
_NEAR, _FAR = 0.9, 0.85
_RETRY_SECONDS = 600


class RegistrationCapacity:
    """At most `max_devices`, of which a tenth may be unused: no server has sent a push to them.

    The registry is trimmed in the background, every TRIM_SECONDS of each worker: between two times it may hold more, by
    as many as the address limits let through. So registering costs no count.
    """

    def __init__(self, max_devices: int) -> None:
        self.max_devices = max_devices
        self.max_unused = max(1, max_devices // _UNUSED_SHARE)
        # A history has up to ten pushes, and takes more space than a registration.
        self.max_histories = max(1, max_devices // _HISTORY_SHARE)
        self.full = False
        self._near = False

    def require(self) -> None:
        """Overloaded while no new device can be stored."""
        if self.full:
            raise Overloaded(
                "This relay stores as many registrations as it may; its operator has to raise RELAY_MAX_DEVICES.",
                retry_after=_RETRY_SECONDS,
            )

    def counted(self, total: int, *, replaceable: bool) -> None:
        """The number of registrations after the registry was trimmed; whether a new one replaces one of them."""
        # Otherwise a client could fill a relay near its limit with unused registrations, and keep all new devices out.
        was_full, self.full = self.full, total >= self.max_devices and not replaceable
        near = total >= (_FAR if self._near else _NEAR) * self.max_devices
        if (self.full, near) != (was_full, self._near) and near:
            logs.warn(
                "registrations_full" if self.full else "registrations_near_limit",
                devices=total,
                limit=self.max_devices,
                message="raise RELAY_MAX_DEVICES, or remove registrations: sigil-relay devices prune",
            )
        self._near = near
