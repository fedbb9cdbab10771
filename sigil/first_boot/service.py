"""First boot: gives the server the identity of a mnemonic, and issues API keys for half an hour after that."""

from __future__ import annotations

import base64
from collections.abc import Callable

from sigil.first_boot.commitment import AlreadyCommitted, Commitment, Session, Vault
from sigil.protocol.api_key import ID_LENGTH, Prefix, issue_api_key
from sigil.protocol.encoding.pictogram import pictogram, speakable
from sigil.protocol.errors import AlreadyInitialized, IdentityMismatch, InvalidRequest
from sigil.protocol.identity import (
    DerivedSecrets,
    InvalidMnemonic,
    ServerIdentity,
    generate_mnemonic,
    normalise,
    unknown_positions,
)
from sigil.protocol.messages.first_boot import (
    Checked,
    ExpectedIdentity,
    Initialized,
    IssuedKey,
    NewWords,
    ShownIdentity,
)

_TOKEN_BYTES = 32


class FirstBoot:
    """Keeps nothing until the commit, and then only derived secrets.

    `expected` is the server_id that this server had before, if any. `on_commit` is called with the new server_id before
    the commit is answered. Only that answer contains `tls_cert_path`. `clock` returns Unix seconds, `randomness(n)` n
    bytes from the system's generator.
    """

    def __init__(
        self,
        *,
        vault: Vault,
        expected: str | None,
        on_commit: Callable[[str], None],
        key_prefix: Prefix,
        tls_cert_path: str | None,
        clock: Callable[[], float],
        randomness: Callable[[int], bytes],
    ) -> None:
        self._vault = vault
        self._expected = expected
        self._committed = on_commit
        self._key_prefix = key_prefix
        self._tls_cert_path = tls_cert_path
        self._clock = clock
        self._randomness = randomness

    @property
    def expected(self) -> ExpectedIdentity | None:
        """The only identity that may be restored here, or None when any may."""
        if self._expected is None:
            return None
        return ExpectedIdentity(self._expected, pictogram(self._expected), speakable(self._expected))

    def generate_words(self) -> NewWords:
        return NewWords(generate_mnemonic().split())

    def check(self, words: str) -> Checked:
        """Raises IdentityMismatch, and InvalidRequest with the positions of wrong words as far as they are known."""
        return Checked(shown_identity(self._identity(words)[1]))

    def commit(self, words: str) -> Initialized:
        """Raises the errors of `check`, and AlreadyInitialized for all but the first commit."""
        secrets, identity = self._identity(words)
        token = base64.urlsafe_b64encode(self._randomness(_TOKEN_BYTES)).decode("ascii").rstrip("=")
        try:
            self._vault.commit(Commitment(secrets, Session.begin(token, self._clock())))
        except AlreadyCommitted as error:
            raise AlreadyInitialized from error
        self._committed(identity.server_id)
        return Initialized(shown_identity(identity), token, self._key_prefix, self._tls_cert_path)

    def _identity(self, words: str) -> tuple[DerivedSecrets, ServerIdentity]:
        try:
            secrets = DerivedSecrets.from_mnemonic(words)
            identity = ServerIdentity.from_secrets(secrets)
        except InvalidMnemonic as error:
            raise _explain(words, error) from None
        expected = self.expected
        if expected is not None and expected.server_id != identity.server_id:
            raise IdentityMismatch(
                server_id=expected.server_id,
                pictogram=expected.server_pictogram,
                pictogram_speakable=expected.server_pictogram_speakable,
            )
        return secrets, identity


def shown_identity(identity: ServerIdentity) -> ShownIdentity:
    return ShownIdentity(
        identity.server_id,
        identity.server_public_keys["ES256"],
        identity.pictogram,
        identity.pictogram_speakable,
    )


def _explain(words: str, error: InvalidMnemonic) -> InvalidRequest:
    text = str(error)
    return InvalidRequest(
        f"{text[0].upper()}{text[1:]}.",
        path="$.words",
        count=len(normalise(words).split()),
        unknown=unknown_positions(words),
    )


class ApiKeyIssuer:
    """Issues API keys to the page that committed the identity, until its session expires."""

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
        return self._session.is_expired(self._clock())

    def authorises(self, token: str) -> bool:
        """False for a wrong token, and when the session has expired."""
        return self._session.accepts(token, self._clock())

    def issue_key(self) -> IssuedKey:
        key_id = self._randomness(ID_LENGTH)
        return IssuedKey(issue_api_key(self._secret, self._prefix, key_id), key_id[:4].hex())
