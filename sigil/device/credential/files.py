"""Credentials of a command: from the file beside the key, renewed by what attested the key before."""

from __future__ import annotations

from pathlib import Path

from sigil.device.attestation import Attester
from sigil.device.credential.async_client import AsyncCredentials
from sigil.device.credential.client import Credentials
from sigil.device.errors import DeviceError
from sigil.device.http.async_connection import AsyncServerConnection
from sigil.device.http.connection import ServerConnection
from sigil.device.keyring import CredentialRecord, Keyring, Registration
from sigil.device.timestamps import Clock


class AttesterUnusable(DeviceError):
    code = "ATTESTER_UNUSABLE"
    summary = "What attested this device's key cannot be used."


class CredentialFile:
    """A `CredentialStore` beside the key file, for one key."""

    def __init__(self, keyring: Keyring, registration: Registration, attested_by: dict[str, str] | None = None) -> None:
        self._keyring, self._base_url = keyring, registration.server.base_url
        self._fingerprint, self._attested_by = registration.device.fingerprint, attested_by

    def load(self) -> str | None:
        record = self._keyring.credential(self._base_url)
        if record is None or record.fingerprint != self._fingerprint:
            return None
        return record.device_credential

    def save(self, credential: str) -> None:
        record = CredentialRecord(
            fingerprint=self._fingerprint, device_credential=credential, attested_by=self._attested_by
        )
        self._keyring.remember_credential(self._base_url, record)


def test_phone(attested_by: dict[str, str]) -> Attester:
    """The phone for tests of `--test-root` and its name; AttesterUnusable."""
    # For tests alone: other commands do not load it.
    from sigil.device.test_phone.phones import TestAttester
    from sigil.device.test_phone.roots import TestRoot

    directory = Path(attested_by.get("test_root", ""))
    try:
        return TestAttester(attested_by.get("phone", ""), TestRoot.load(directory))
    except (OSError, ValueError, TypeError) as error:
        raise AttesterUnusable(
            f"{directory} holds no test root: make one with 'python -m deploy.attestation root DIR', and pass it with "
            "--test-root."
        ) from error


def stored_attester(attested_by: dict[str, str] | None) -> Attester | None:
    """What attested the key before; None when there is nothing that can do it again."""
    try:
        return None if attested_by is None else test_phone(attested_by)
    except AttesterUnusable:
        return None


def credentials_of(
    keyring: Keyring, registration: Registration, connection: ServerConnection, clock: Clock
) -> Credentials | None:
    """None for a key that was never attested."""
    if (record := keyring.credential(registration.server.base_url)) is None:
        return None
    store = CredentialFile(keyring, registration, record.attested_by)
    attester = stored_attester(record.attested_by)
    return Credentials(registration.device, registration.server, connection, store, attester=attester, clock=clock)


def async_credentials_of(
    keyring: Keyring, registration: Registration, connection: AsyncServerConnection, clock: Clock
) -> AsyncCredentials | None:
    if (record := keyring.credential(registration.server.base_url)) is None:
        return None
    store = CredentialFile(keyring, registration, record.attested_by)
    attester = stored_attester(record.attested_by)
    return AsyncCredentials(registration.device, registration.server, connection, store, attester=attester, clock=clock)
