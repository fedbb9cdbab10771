"""The credential of one device: from its file for each approval, and from the server when it is due."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Protocol

from sigil.device.attestation import Attester
from sigil.device.credential.steps import AttestationOff, attest_body, checked_credential, renewal_time
from sigil.device.errors import DeviceError, ServerRefused
from sigil.device.http.connection import ServerConnection
from sigil.device.http.exchange import decode_response
from sigil.device.server_pin import ServerPin
from sigil.device.software import Device
from sigil.device.timestamps import Clock
from sigil.protocol.messages.server import Info


class CredentialStore(Protocol):
    """Holds the text of a credential: a file, or in tests memory."""

    def load(self) -> str | None: ...

    def save(self, credential: str) -> None: ...


class MemoryCredential:
    """For a device that lives in one process."""

    def __init__(self, credential: str | None = None) -> None:
        self._credential = credential

    def load(self) -> str | None:
        return self._credential

    def save(self, credential: str) -> None:
        self._credential = credential


class Credentials:
    """`attester` renews; without one the device sends what it has until it expires. Raises what `ServerConnection`
    raises, and CredentialRefused.
    """

    def __init__(
        self,
        device: Device,
        server: ServerPin,
        connection: ServerConnection,
        store: CredentialStore,
        *,
        attester: Attester | None = None,
        clock: Clock = time.time,
    ) -> None:
        self._device, self._server, self._connection = device, server, connection
        self._store, self._attester, self._clock = store, attester, clock
        self._wanted: bool | None = None

    def for_approval(self) -> str | None:
        """What an approval sends: None without a credential, and where the server takes none."""
        credential = self._store.load()
        due = renewal_time(credential, self._device.public, self._server)
        if credential is None or due is None or not self._is_wanted():
            return None
        if self._clock() >= due:
            # The present one may be good for a third of its life more.
            with suppress(DeviceError):
                return self.renewed() or credential
        return credential

    def renewed(self) -> str | None:
        """A new credential, which renews the present one; None where this device cannot attest itself."""
        return None if self._attester is None else self.obtain(self._attester)

    def obtain(self, attester: Attester) -> str:
        """A credential of the server, checked and stored; AttestationOff."""
        if not self._is_wanted():
            raise AttestationOff
        previous = self._store.load()
        try:
            credential = self._attested(attester, previous)
        except ServerRefused as error:
            # The present credential cannot be renewed any more: attested from the start.
            if previous is None or error.code != "ATTESTATION_INVALID":
                raise
            credential = self._attested(attester, None)
        checked_credential(credential, self._device.public, self._server)
        self._store.save(credential)
        return credential

    def _attested(self, attester: Attester, previous: str | None) -> str:
        challenge = self._connection.attest_challenge()
        body = attest_body(self._device, self._server, challenge, attester, previous)
        return self._connection.attest(body).device_credential

    def _is_wanted(self) -> bool:
        if self._wanted is None:
            self._wanted = decode_response(self._connection.info(), Info).features.attestation
        return self._wanted
