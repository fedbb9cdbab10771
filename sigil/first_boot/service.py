"""First boot: from words that a person holds to a server with an identity; and the API keys of the half hour after."""

from __future__ import annotations

import base64
from collections.abc import Callable

from sigil.first_boot.commitment import AlreadyCommitted, Commitment, Session, Vault
from sigil.protocol.api_key import ID_LENGTH, Prefix, issue
from sigil.protocol.errors import AlreadyInitialized, IdentityMismatch, InvalidRequest
from sigil.protocol.first_boot_messages import (
    Checked,
    ExpectedIdentity,
    Initialized,
    IssuedKey,
    NewWords,
    ShownIdentity,
)
from sigil.protocol.identity import (
    DerivedSecrets,
    InvalidMnemonic,
    ServerIdentity,
    WrongChecksum,
    generate_mnemonic,
    normalise,
)
from sigil.protocol.mnemonic_typos import likely_positions, unknown_positions
from sigil.protocol.pictogram import pictogram, speakable

_TOKEN_BYTES = 32


class FirstBoot:
    """Keeps nothing until the commit, and then derived secrets alone.

    `expected` is the server_id that this server had before, if any; `committed` is told the new one before anybody else
    is. `tls_cert_path` is told to whoever commits, and to nobody before. `clock` gives Unix seconds, `randomness(n)` n
    bytes from the system's generator.
    """

    def __init__(
        self,
        *,
        vault: Vault,
        expected: str | None,
        committed: Callable[[str], None],
        key_prefix: Prefix,
        tls_cert_path: str | None,
        clock: Callable[[], float],
        randomness: Callable[[int], bytes],
    ) -> None:
        self._vault = vault
        self._expected = expected
        self._committed = committed
        self._key_prefix = key_prefix
        self._tls_cert_path = tls_cert_path
        self._clock = clock
        self._randomness = randomness

    @property
    def expected(self) -> ExpectedIdentity | None:
        """What alone may be restored here."""
        if self._expected is None:
            return None
        return ExpectedIdentity(self._expected, pictogram(self._expected), speakable(self._expected))

    def words(self) -> NewWords:
        return NewWords(generate_mnemonic().split())

    def check(self, words: str) -> Checked:
        """InvalidRequest says what is wrong with the words, as far as that can be told; IdentityMismatch."""
        return Checked(shown(self._identity(words)[1]))

    def commit(self, words: str) -> Initialized:
        """The same, and AlreadyInitialized for all but the first."""
        secrets, identity = self._identity(words)
        token = base64.urlsafe_b64encode(self._randomness(_TOKEN_BYTES)).decode("ascii").rstrip("=")
        try:
            self._vault.commit(Commitment(secrets, Session.of(token, self._clock())))
        except AlreadyCommitted as error:
            raise AlreadyInitialized from error
        self._committed(identity.server_id)
        return Initialized(shown(identity), token, self._key_prefix, self._tls_cert_path)

    def _identity(self, words: str) -> tuple[DerivedSecrets, ServerIdentity]:
        try:
            secrets = DerivedSecrets.from_mnemonic(words)
            identity = ServerIdentity.from_secrets(secrets)
        except InvalidMnemonic as error:
            raise _explained(words, error) from None
        if self._expected not in {None, identity.server_id}:
            raise IdentityMismatch(server_id=self._expected, pictogram=pictogram(self._expected or ""))
        return secrets, identity


def shown(identity: ServerIdentity) -> ShownIdentity:
    return ShownIdentity(
        identity.server_id,
        identity.server_public_keys["ES256"],
        identity.pictogram,
        identity.pictogram_speakable,
    )


def _explained(words: str, error: InvalidMnemonic) -> InvalidRequest:
    text = str(error)
    return InvalidRequest(
        f"{text[0].upper()}{text[1:]}.",
        path="$.words",
        count=len(normalise(words).split()),
        unknown=unknown_positions(words),
        likely=likely_positions(words) if isinstance(error, WrongChecksum) else [],
    )


class ApiKeyIssuer:
    """Makes API keys for whoever committed the identity, until the session ends."""

    def __init__(
        self,
        *,
        api_key_secret: bytes,
        session: Session,
        prefix: Prefix,
        clock: Callable[[], float],
        randomness: Callable[[int], bytes],
    ) -> None:
        self._secret = api_key_secret
        self._session = session
        self._prefix = prefix
        self._clock = clock
        self._randomness = randomness

    @property
    def is_closed(self) -> bool:
        return self._session.is_over(self._clock())

    def authorises(self, token: str) -> bool:
        """False for another token, and when the session is over."""
        return self._session.opens(token, self._clock())

    def make_key(self) -> IssuedKey:
        key_id = self._randomness(ID_LENGTH)
        return IssuedKey(issue(self._secret, self._prefix, key_id), key_id[:4].hex())
