"""Derives a server's identity and secrets from its 24-word mnemonic (docs/protocol.md, 2.3)."""

from __future__ import annotations

import hmac
import unicodedata
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import coincurve
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from sigil.protocol import signed_bytes
from sigil.protocol.encoding.pictogram import pictogram, speakable
from sigil.protocol.encoding.text import encode_base64
from sigil.protocol.keys import SECP256K1_ORDER, PrivateKey, PublicKey, Suite

if TYPE_CHECKING:
    from mnemonic import Mnemonic

_HARDENED = 1 << 31
_ES256_PATH = (44 + _HARDENED, _HARDENED, _HARDENED, 0, 0)
_ES256K_PATH = (44 + _HARDENED, _HARDENED, 1 + _HARDENED, _HARDENED, _HARDENED)
WORD_COUNT = 24


class InvalidMnemonic(ValueError):
    """Not a usable mnemonic. The message gives the reason and contains none of the words."""


@dataclass(frozen=True, repr=False)
class DerivedSecrets:
    """The six 32-byte secrets of a server. A running server keeps only these: never the mnemonic, never the seed."""

    es256: bytes
    es256k: bytes
    ed25519: bytes
    api_key: bytes
    enrolment: bytes
    attest_nonce: bytes

    @classmethod
    def from_mnemonic(cls, words: str) -> DerivedSecrets:
        """Raises InvalidMnemonic. Accepts any case and spacing; needs the `mnemonic` package."""
        seed = _bip39_seed(words)
        return cls(
            es256=_bip32(seed, _ES256_PATH),
            es256k=_bip32(seed, _ES256K_PATH),
            ed25519=_hkdf(seed, b"sigil/ed25519/v1"),
            api_key=_hkdf(seed, b"sigil/api-key/v1"),
            enrolment=_hkdf(seed, b"sigil/enrolment/v1"),
            attest_nonce=_hkdf(seed, b"sigil/attest-nonce/v1"),
        )


def backup_key(words: str) -> bytes:
    """32 bytes that seal a backup (`sealed_key`); a running server never holds them. Raises InvalidMnemonic."""
    return _hkdf(_bip39_seed(words), b"sigil/backup/v1")


def generate_mnemonic() -> str:
    """24 new words from the system's generator."""
    return _english().generate(strength=256)


def normalise(words: str) -> str:
    """NFKD, lower case, single spaces: the form of a mnemonic from which checksum and seed are computed."""
    return " ".join(unicodedata.normalize("NFKD", words).lower().split())


@lru_cache(maxsize=1)
def _english() -> Mnemonic:
    # Imported here: the SDK and devices use this package without the `mnemonic` package installed.
    from mnemonic import Mnemonic

    return Mnemonic("english")


def word_list() -> tuple[str, ...]:
    """The 2048 words of the English BIP-39 list, in its order."""
    return tuple(_english().wordlist)


@lru_cache(maxsize=1)
def word_indices() -> dict[str, int]:
    """The index of each word in the list, from 0: the 11 bits that the word encodes."""
    return {word: index for index, word in enumerate(word_list())}


def unknown_positions(words: str) -> list[int]:
    """Positions 1..24 of words that are not in the list."""
    given = normalise(words).split()[:WORD_COUNT]
    return [position for position, word in enumerate(given, 1) if word not in word_indices()]


def _bip39_seed(words: str) -> bytes:
    text = normalise(words)
    given = text.split()
    if len(given) != WORD_COUNT:
        raise InvalidMnemonic(f"a mnemonic has {WORD_COUNT} words, this one has {len(given)}")
    if unknown := unknown_positions(words):
        raise InvalidMnemonic(f"not in the BIP-39 English word list: word {', '.join(map(str, unknown))}")
    if not _english().check(text):
        # Not which: a misspelling of a right word fits the 8 bits of the checksum by chance too often (decision 0042).
        raise InvalidMnemonic("the checksum does not match: at least one word is wrong, or not in its place")
    return bytes(_english().to_seed(text, passphrase=""))


def _bip32(seed: bytes, path: tuple[int, ...]) -> bytes:
    """The child private key at `path` (BIP-32 over secp256k1), 32 bytes."""
    digest = hmac.digest(b"Bitcoin seed", seed, "sha512")
    key, chain = digest[:32], digest[32:]
    if not 0 < int.from_bytes(key) < SECP256K1_ORDER:
        raise InvalidMnemonic("this mnemonic has no valid master key: generate another")
    for index in path:
        public = coincurve.PrivateKey(key).public_key.format(compressed=True)
        parent = b"\0" + key if index & _HARDENED else public
        digest = hmac.digest(chain, parent + index.to_bytes(4), "sha512")
        left, chain = int.from_bytes(digest[:32]), digest[32:]
        child = (left + int.from_bytes(key)) % SECP256K1_ORDER
        # BIP-32 declares such a child invalid (chance 2^-127); implementations would derive different identities.
        if left >= SECP256K1_ORDER or child == 0:
            raise InvalidMnemonic("this mnemonic has no valid key at the path: generate another")
        key = child.to_bytes(32)
    return key


def _hkdf(seed: bytes, label: bytes) -> bytes:
    """HKDF-SHA-256 (RFC 5869) with an empty salt and `label` as info, 32 bytes."""
    return HKDF(algorithm=hashes.SHA256(), length=32, salt=None, info=label).derive(seed)


@dataclass(frozen=True, repr=False)
class ServerIdentity:
    """A server's keys and names. `server_id` is the fingerprint of its ES256 key."""

    keys: dict[Suite, PrivateKey]
    api_key_secret: bytes
    enrolment_secret: bytes
    attest_nonce_secret: bytes
    server_id: str
    server_public_keys: dict[str, str]
    keys_signature: str
    pictogram: list[str]
    pictogram_speakable: str
    own_public_keys: frozenset[bytes]

    @classmethod
    def from_secrets(cls, secrets: DerivedSecrets) -> ServerIdentity:
        """Raises InvalidMnemonic when a scalar is not in 1..n-1 of its curve."""
        try:
            keys: dict[Suite, PrivateKey] = {
                "ES256": PrivateKey.load("ES256", secrets.es256),
                "ES256K": PrivateKey.load("ES256K", secrets.es256k),
                "Ed25519": PrivateKey.load("Ed25519", secrets.ed25519),
            }
        except ValueError as error:
            raise InvalidMnemonic("this mnemonic gives a key outside its curve's order: generate another") from error
        public: dict[str, str] = {suite: encode_base64(key.public.wire) for suite, key in keys.items()}
        server_id = keys["ES256"].public.fingerprint
        return cls(
            keys=keys,
            api_key_secret=secrets.api_key,
            enrolment_secret=secrets.enrolment,
            attest_nonce_secret=secrets.attest_nonce,
            server_id=server_id,
            server_public_keys=public,
            keys_signature=encode_base64(keys["ES256"].sign(signed_bytes.server_keys(public))),
            pictogram=pictogram(server_id),
            pictogram_speakable=speakable(server_id),
            own_public_keys=frozenset(key.public.wire for key in keys.values()),
        )

    def sign_for(self, device: PublicKey, message: bytes) -> bytes:
        """Sign with the key of the device's own suite; ES256 for a WebAuthn key."""
        return self.keys[device.server_suite].sign(message)
