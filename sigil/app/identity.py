"""The identity of the server of these settings, for commands next to it."""

from __future__ import annotations

from sigil.app.checks import derive
from sigil.app.init_mode import read_committed
from sigil.config.settings import Config
from sigil.protocol.identity import ServerIdentity


def identity_of(config: Config) -> ServerIdentity | None:
    """From the mnemonic of the settings, or from the state directory, where the wizard wrote it. None before the first
    boot. StartupError. It only reads, and takes no lock.
    """
    if config.mnemonic is not None:
        return ServerIdentity.from_secrets(derive(config.mnemonic))
    return read_committed(config)
