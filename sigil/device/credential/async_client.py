"""`Credentials` for an event loop."""

from __future__ import annotations

import time
from contextlib import suppress

from sigil.device.attestation import Attester
from sigil.device.credential.client import CredentialStore
from sigil.device.credential.steps import AttestationOff, attest_body, checked_credential, renewal_time
from sigil.device.errors import DeviceError, ServerRefused
from sigil.device.http.async_connection import AsyncServerConnection
from sigil.device.http.exchange import decode_response
from sigil.device.server_pin import ServerPin
from sigil.device.software import Device
from sigil.device.timestamps import Clock
from sigil.protocol.messages.server import Info


class AsyncCredentials:
    """As `Credentials`; the store is small, and read without a thread."""

    def __init__(
        self,
        device: Device,
        server: ServerPin,
        connection: AsyncServerConnection,
        store: CredentialStore,
        *,
        attester: Attester | None = None,
        clock: Clock = time.time,
    ) -> None:
        self._device, self._server, self._connection = device, server, connection
        self._store, self._attester, self._clock = store, attester, clock
        self._wanted: bool | None = None

    async def for_approval(self) -> str | None:
        credential = self._store.load()
        due = renewal_time(credential, self._device.public, self._server)
        if credential is None or due is None or not await self._is_wanted():
            return None
        if self._clock() >= due:
            # The present one may be good for a third of its life more.
            with suppress(DeviceError):
                return await self.renewed() or credential
        return credential

    async def renewed(self) -> str | None:
        return None if self._attester is None else await self.obtain(self._attester)

    async def obtain(self, attester: Attester) -> str:
        if not await self._is_wanted():
            raise AttestationOff
        previous = self._store.load()
        try:
            credential = await self._attested(attester, previous)
        except ServerRefused as error:
            # The present credential cannot be renewed any more: attested from the start.
            if previous is None or error.code != "ATTESTATION_INVALID":
                raise
            credential = await self._attested(attester, None)
        checked_credential(credential, self._device.public, self._server)
        self._store.save(credential)
        return credential

    async def _attested(self, attester: Attester, previous: str | None) -> str:
        challenge = await self._connection.attest_challenge()
        body = attest_body(self._device, self._server, challenge, attester, previous)
        return (await self._connection.attest(body)).device_credential

    async def _is_wanted(self) -> bool:
        if self._wanted is None:
            self._wanted = decode_response(await self._connection.info(), Info).features.attestation
        return self._wanted
