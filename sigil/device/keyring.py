"""Keys on disk: one file per server, readable only by its owner, written completely or not at all."""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote

import msgspec

from sigil.console.new_file import create_file, remove_leftovers, replace_file
from sigil.device.enrolment.errors import EnrolmentBusy
from sigil.device.enrolment.pending import PendingEnrolment, PreparedKey
from sigil.device.errors import AlreadyRegistered, KeyFileExposed, KeyFileUnusable, NotRegistered
from sigil.device.http.origin import base_url as normalised
from sigil.device.http.tls import TlsTrust
from sigil.device.server_pin import ServerPin
from sigil.device.software import SECRET_LENGTH, Device, new_secret
from sigil.device.timestamps import Clock, FileTimestamps, Sleep
from sigil.device.wrong_codes import FileWrongCodes
from sigil.protocol.encoding.text import decode_base64, encode_base64
from sigil.protocol.errors import InvalidRequest
from sigil.protocol.keys import Suite
from sigil.protocol.messages.relay import Platform

_SUFFIX, _SECOND, _RELAY, _WRONG_CODES = ".json", ".second", ".relay", ".wrong-codes"
_ENROLMENT, _CREDENTIAL = ".enrolment", ".credential"
_MAX_FILE = 1 << 20


class _File(msgspec.Struct, frozen=True):
    suite: Suite
    private_key: str
    server: ServerPin
    account: str = ""
    enrolment: str = ""

    def __repr__(self) -> str:
        return "<key file>"  # The generated one would print the private key.


class RelayRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A registration at a relay, and how the relay is reached. `any_http`: plain http was allowed. No secret."""

    origin: str
    platform: Platform
    fingerprint: str
    tls: TlsTrust = TlsTrust()
    any_http: bool = False


class CredentialRecord(msgspec.Struct, frozen=True, kw_only=True):
    """The device_credential of the key with this fingerprint. `attested_by` names what attested it, for renewals."""

    fingerprint: str
    device_credential: str
    attested_by: dict[str, str] | None = None

    def __repr__(self) -> str:
        return "<device credential>"


@dataclass(frozen=True)
class Registration:
    """A device and the server for which it was made. After an enrolment also its account, and `enrolment`, the
    token_sha256: a repeated command finds that it is done.
    """

    server: ServerPin
    device: Device
    account: str = ""
    enrolment: str = ""


class Keyring:
    """The registrations under one directory (0700, created at the first write).

    Raises OSError, and KeyFileExposed when other users can reach the directory or a file, or own it.
    """

    def __init__(self, home: Path) -> None:
        self.home = home

    def create(self, server: ServerPin, suite: Suite, *, replace: bool = False) -> Registration:
        """A new key for `server`, on disk when this returns; AlreadyRegistered unless `replace`."""
        secret = new_secret(suite)
        content = msgspec.json.encode(_File(suite, encode_base64(secret), server))
        self._write(self._path(server.base_url), content, replace=replace)
        return Registration(server, Device.from_secret(suite, secret))

    def load(self, base_url: str) -> Registration:
        """NotRegistered, KeyFileExposed, KeyFileUnusable; the message quotes nothing from the file."""
        path = self._path(base_url)
        if not self.home.is_dir():
            raise NotRegistered
        self._require_private_home()
        return _registration(_read_private(path), path, base_url)

    def find(self, base_url: str) -> Registration | None:
        """As `load`; None when there is none."""
        try:
            return self.load(base_url)
        except NotRegistered:
            return None

    def known(self) -> list[str]:
        """The base URLs of all registrations, sorted."""
        if not self.home.is_dir():
            return []
        names = (path.name for path in self.home.glob(f"[!.]*{_SUFFIX}"))
        return sorted(unquote(name.removesuffix(_SUFFIX)) for name in names)

    def forget(self, base_url: str) -> None:
        """Delete a registration and its key, and an enrolment that is not finished; NotRegistered."""
        unfinished = self._sibling(base_url, _ENROLMENT).exists()
        try:
            self._path(base_url).unlink()
        except FileNotFoundError as error:
            if not unfinished:
                raise NotRegistered from error
        for suffix in (_SECOND, _WRONG_CODES, _CREDENTIAL, _ENROLMENT):
            self._sibling(base_url, suffix).unlink(missing_ok=True)
        self.forget_relay(base_url)
        remove_leftovers(self.home)

    @contextmanager
    def enrolling(self) -> Iterator[None]:
        """One enrolment at a time in this directory: of two, each would overwrite the other's key. EnrolmentBusy."""
        self._make_home()
        directory = os.open(self.home, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            try:
                fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise EnrolmentBusy from error
            remove_leftovers(self.home)
            yield
        finally:
            os.close(directory)

    def pending_enrolment(self, base_url: str) -> PendingEnrolment | None:
        """The enrolment with this server that is not finished."""
        path = self._sibling(base_url, _ENROLMENT)
        try:
            return msgspec.json.decode(_read_private(path), type=PendingEnrolment)
        except NotRegistered:
            return None
        except (msgspec.DecodeError, UnicodeDecodeError):
            # A cause could quote the key.
            raise KeyFileUnusable(f"{path} is damaged: delete it and begin a new enrolment.") from None

    def remember_enrolment(self, pending: PendingEnrolment) -> None:
        self._write(self._sibling(pending.server.base_url, _ENROLMENT), msgspec.json.encode(pending), replace=True)

    def forget_enrolment(self, base_url: str) -> None:
        self._sibling(base_url, _ENROLMENT).unlink(missing_ok=True)

    def adopt(self, pending: PendingEnrolment, prepared: PreparedKey, account: str) -> Registration:
        """Make the key of an enrolment the key for its server, in place of an earlier one."""
        server = pending.server
        file = _File(prepared.suite, prepared.private_key, server, account, pending.token_sha256)
        path = self._path(server.base_url)
        self._write(path, msgspec.json.encode(file), replace=True)
        return _registration(msgspec.json.encode(file), path, server.base_url)

    def credential(self, base_url: str) -> CredentialRecord | None:
        """Of the present key; None also when the file is damaged, since the device can obtain another."""
        fingerprint = self.load(base_url).device.fingerprint
        return next((record for record in self._credentials(base_url) if record.fingerprint == fingerprint), None)

    def remember_credential(self, base_url: str, record: CredentialRecord) -> None:
        """Keeps that of another key too: during an enrolment the old key and the new one each have theirs."""
        others = [kept for kept in self._credentials(base_url) if kept.fingerprint != record.fingerprint]
        self._write(self._sibling(base_url, _CREDENTIAL), msgspec.json.encode([*others[-1:], record]), replace=True)

    def _credentials(self, base_url: str) -> list[CredentialRecord]:
        try:
            return msgspec.json.decode(_read_private(self._sibling(base_url, _CREDENTIAL)), type=list[CredentialRecord])
        except (NotRegistered, msgspec.DecodeError, UnicodeDecodeError):
            return []

    def timestamps(self, base_url: str, clock: Clock, sleep: Sleep) -> FileTimestamps:
        """The timestamps for `/device/pending`, shared by all processes."""
        return FileTimestamps(self._sibling(base_url, _SECOND), clock, sleep)

    def wrong_codes(self, base_url: str) -> FileWrongCodes:
        return FileWrongCodes(self._sibling(base_url, _WRONG_CODES))

    def relay(self, base_url: str) -> RelayRecord | None:
        """The relay where the key for this server is registered; None also for a record of an earlier key."""
        registration, path = self.load(base_url), self._sibling(base_url, _RELAY)
        try:
            record = msgspec.json.decode(_read_private(path), type=RelayRecord)
        except NotRegistered:
            return None
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise KeyFileUnusable(f"{path} is damaged: delete it and run 'sigil device register' again.") from error
        return record if record.fingerprint == registration.device.fingerprint else None

    def remember_relay(self, base_url: str, record: RelayRecord) -> None:
        self._write(self._sibling(base_url, _RELAY), msgspec.json.encode(record), replace=True)

    def forget_relay(self, base_url: str) -> None:
        self._sibling(base_url, _RELAY).unlink(missing_ok=True)

    def _path(self, base_url: str) -> Path:
        return self.home / (quote(normalised(base_url), safe="") + _SUFFIX)

    def _sibling(self, base_url: str, suffix: str) -> Path:
        return self._path(base_url).with_suffix(suffix)

    def _require_private_home(self) -> None:
        _require_private(self.home.stat(), self.home, "chmod 700")

    def _make_home(self) -> None:
        self.home.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._require_private_home()

    def _write(self, path: Path, content: bytes, *, replace: bool) -> None:
        self._make_home()
        if replace:
            replace_file(path, content)
            return
        try:
            create_file(path, content)
        except FileExistsError as error:
            raise AlreadyRegistered from error


def _read_private(path: Path) -> bytes:
    try:
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise NotRegistered from error
    try:
        # fstat on the open file: between a check of the path and the read, the path could be replaced.
        status = os.fstat(file)
        if not stat.S_ISREG(status.st_mode):
            raise KeyFileUnusable(f"{path} is not a regular file.")
        _require_private(status, path, "chmod 600")
        return os.read(file, _MAX_FILE)
    finally:
        os.close(file)


def _require_private(status: os.stat_result, path: Path, fix: str) -> None:
    """A user who can read or replace the key can approve in its owner's name: make a new key if that happened."""
    if status.st_uid != os.geteuid():
        raise KeyFileExposed(f"{path} belongs to another user.")
    if stat.S_IMODE(status.st_mode) & 0o077:
        raise KeyFileExposed(f"{path} is open to other users: run {fix} {path}, and 'init --force' if it was read.")


def _registration(content: bytes, path: Path, base_url: str) -> Registration:
    try:
        file = msgspec.json.decode(content, type=_File)
        secret = decode_base64(file.private_key, "$.private_key", length=SECRET_LENGTH)
        device = Device.from_secret(file.suite, secret)
    except (msgspec.DecodeError, UnicodeDecodeError, InvalidRequest, ValueError):
        raise KeyFileUnusable(f"{path} is damaged.") from None  # A cause could quote the key.
    if file.server.base_url != normalised(base_url):
        raise KeyFileUnusable(f"{path} belongs to another server.")
    return Registration(file.server, device, file.account, file.enrolment)
