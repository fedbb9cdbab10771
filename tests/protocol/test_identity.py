"""The identity that a mnemonic gives (docs/protocol.md, 2.3)."""

from __future__ import annotations

import base64
import dataclasses
import pickle

import pytest

from sigil.protocol import identity as identities
from sigil.protocol.errors import Problem
from sigil.protocol.identity import (
    DerivedSecrets,
    InvalidMnemonic,
    ServerIdentity,
    backup_key,
    generate_mnemonic,
    normalise,
    unknown_positions,
)
from sigil.protocol.keys import P256_ORDER, SECP256K1_ORDER, SUITES, PrivateKey, PublicKey

from .vectors import Case, cases, each_case

GOOD = cases("mnemonics.json")[0]
SECRETS = ("es256", "es256k", "ed25519", "api_key", "enrolment", "attest_nonce")


@pytest.fixture(scope="module")
def secrets() -> DerivedSecrets:
    return DerivedSecrets.from_mnemonic(GOOD["words"])


@pytest.fixture(scope="module")
def identity(secrets: DerivedSecrets) -> ServerIdentity:
    return ServerIdentity.from_secrets(secrets)


@each_case("mnemonics.json")
def test_a_mnemonic_gives_its_identity_or_an_error(case: Case) -> None:
    if case["expect"] == "INVALID_MNEMONIC":
        with pytest.raises(InvalidMnemonic) as raised:
            DerivedSecrets.from_mnemonic(case["words"])
        message = str(raised.value)
        assert case["says"] in message
        _assert_no_word(message, case["words"])
    else:
        secrets = DerivedSecrets.from_mnemonic(case["words"])
        assert {name: getattr(secrets, name).hex() for name in SECRETS}.items() <= case["expect"].items()
        assert backup_key(case["words"]).hex() == case["expect"]["backup_key"]
        identity = ServerIdentity.from_secrets(secrets)
        assert identity.server_id == case["expect"]["server_id"]
        assert identity.server_public_keys == case["expect"]["server_public_keys"]
        assert identity.keys_signature == case["expect"]["keys_signature"]
        assert identity.api_key_secret == secrets.api_key
        assert identity.enrolment_secret == secrets.enrolment
        assert identity.attest_nonce_secret == secrets.attest_nonce


def _assert_no_word(message: str, words: str) -> None:
    # Some words of the messages, such as "word" and "change", are in the BIP-39 list themselves.
    ours = set(" ".join(["not in the BIP-39 English word list", "the checksum does not match", "has"]).lower().split())
    given = set(normalise(words).split()) - ours
    assert given & {word.strip(",.:") for word in message.lower().split()} <= {
        "word",
        "place",
        "list",
        "change",
        "wrong",
    }


@each_case("bip32.json")
def test_a_child_key_is_that_of_the_published_vector(case: Case) -> None:
    assert identities._bip32(bytes.fromhex(case["seed"]), tuple(case["path"])).hex() == case["expect"]


def test_the_six_secrets_are_different(secrets: DerivedSecrets) -> None:
    values = [getattr(secrets, name) for name in SECRETS]
    assert len(set(values)) == 6
    assert {len(value) for value in values} == {32}
    assert {field.name for field in dataclasses.fields(secrets)} == set(SECRETS)


def test_each_label_gives_a_different_secret() -> None:
    labels = [
        b"sigil/ed25519/v1",
        b"sigil/api-key/v1",
        b"sigil/enrolment/v1",
        b"sigil/attest-nonce/v1",
        b"sigil/relay-nonce/v1",
        b"sigil/relay-nonce-secret/v1",
        b"sigil/ed25519/v2",
        b"",
    ]
    assert len({identities._hkdf(b"seed", label) for label in labels}) == len(labels)


def test_hkdf_is_that_of_rfc_5869_with_an_empty_salt() -> None:
    """RFC 5869, A.3, cut to 32 bytes."""
    derived = identities._hkdf(b"\x0b" * 22, b"")
    assert derived.hex() == "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d"


def test_a_generated_mnemonic_is_valid() -> None:
    words = generate_mnemonic()
    assert len(words.split(" ")) == 24
    assert words == normalise(words)
    assert ServerIdentity.from_secrets(DerivedSecrets.from_mnemonic(words)).server_id
    assert generate_mnemonic() != words


def test_normalising_twice_changes_nothing() -> None:
    for case in cases("mnemonics.json"):
        assert normalise(normalise(case["words"])) == normalise(case["words"])


def test_a_server_knows_all_of_its_own_public_keys(identity: ServerIdentity) -> None:
    """They are rejected as device keys: server and device sign the same bytes of a challenge."""
    assert identity.own_public_keys == {key.public.wire for key in identity.keys.values()}
    assert set(identity.keys) == set(SUITES) == set(identity.server_public_keys)
    assert identity.server_id == identity.keys["ES256"].public.fingerprint


@pytest.mark.parametrize("suite", SUITES)
def test_a_server_signs_with_the_key_of_the_devices_suite(identity: ServerIdentity, suite: str) -> None:
    device = PrivateKey.load(suite, b"\1" * 32).public  # type: ignore[arg-type]
    signature = identity.sign_for(device, b"message")
    assert [name for name, key in identity.keys.items() if key.public.verify(b"message", signature)] == [suite]


@pytest.mark.parametrize("name", ["es256", "es256k"])
def test_a_scalar_outside_of_its_order_is_an_invalid_mnemonic(secrets: DerivedSecrets, name: str) -> None:
    order = P256_ORDER if name == "es256" else SECP256K1_ORDER
    for scalar in (0, order, 2**256 - 1):
        with pytest.raises(InvalidMnemonic) as raised:
            ServerIdentity.from_secrets(dataclasses.replace(secrets, **{name: scalar.to_bytes(32)}))
        assert scalar.to_bytes(32).hex() not in str(raised.value) + str(raised.value.__cause__)


def test_nothing_secret_is_printed(secrets: DerivedSecrets, identity: ServerIdentity) -> None:
    holders = [secrets, identity, [secrets], {"identity": identity}, *identity.keys.values()]
    shown = [text for holder in holders for text in (repr(holder), str(holder), f"{holder}")]
    shown += [repr(pickle.loads(pickle.dumps(secrets))), repr(dataclasses.replace(identity))]  # noqa: S301
    shown.append(repr(dataclasses.replace(secrets)))
    for text in shown:
        for name in SECRETS:
            value: bytes = getattr(secrets, name)
            assert value.hex() not in text.lower()
            assert repr(value)[2:-1] not in text
            assert str(int.from_bytes(value)) not in text
        assert "zoo" not in text


def test_the_error_of_a_mnemonic_is_no_protocol_error_and_contains_no_word() -> None:
    words = GOOD["words"].replace("vote", "xylography")
    with pytest.raises(InvalidMnemonic) as raised:
        DerivedSecrets.from_mnemonic(words)
    error: BaseException | None = raised.value
    assert not isinstance(error, Problem)
    while error is not None:
        assert "zoo" not in repr(error)
        assert "xylography" not in repr(error)
        error = error.__cause__ or error.__context__


def test_frozen_values_cannot_be_changed(secrets: DerivedSecrets, identity: ServerIdentity) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        secrets.es256 = bytes(32)  # type: ignore[misc]
    with pytest.raises(dataclasses.FrozenInstanceError):
        identity.server_id = "0" * 64  # type: ignore[misc]


def test_two_derivations_are_equal(secrets: DerivedSecrets, identity: ServerIdentity) -> None:
    again = DerivedSecrets.from_mnemonic(GOOD["words"])
    assert again == secrets
    assert ServerIdentity.from_secrets(again).server_public_keys == identity.server_public_keys
    for text in identity.server_public_keys.values():
        assert PublicKey.parse(base64.b64decode(text)).wire in identity.own_public_keys


def test_unknown_words_are_counted_from_one_and_no_further_than_24() -> None:
    words = GOOD["words"].split()
    assert unknown_positions(" ".join(words)) == []
    assert unknown_positions(" ".join(["xylography", *words[1:]]).upper()) == [1]
    assert unknown_positions("x " * 30) == list(range(1, 25))
