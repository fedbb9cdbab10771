"""Stateless API keys (docs/protocol.md, section 3)."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from sigil.protocol import api_key
from sigil.protocol.api_key import PREFIXES, Caller, KeyRing, Prefix, issue_api_key, preset_owner
from sigil.protocol.errors import Unauthorized

from .vectors import Case, cases, mismatches

SECRET = bytes(range(32, 64))
KEY_ID = bytes(range(16))


def _error_of(ring: KeyRing, authorization: str | None) -> Unauthorized:
    with pytest.raises(Unauthorized) as raised:
        ring.authenticate(authorization)
    return raised.value


def _ring(case: Case) -> KeyRing:
    return KeyRing(bytes.fromhex(case["secret"]), **case["ring"])


def _owner(case: Case) -> Case:
    try:
        caller = _ring(case).authenticate(case["authorization"])
    except Unauthorized as error:
        return {"expect": error.code}
    assert caller.key_id == caller.owner.hex()[:8]
    return {"expect": caller.owner.hex()}


def test_every_header_gives_its_owner_or_is_rejected() -> None:
    assert mismatches("api_keys.json", _owner) == {}


def test_all_errors_are_the_same() -> None:
    raised = [
        _error_of(_ring(case), case["authorization"])
        for case in cases("api_keys.json")
        if case["expect"] == "UNAUTHORIZED"
    ]
    assert len(raised) > 50
    faces = {(type(e), e.code, e.message, str(e), repr(dict(e.details)), repr(e.__cause__)) for e in raised}
    assert len(faces) == 1


@pytest.mark.parametrize("prefix", PREFIXES)
def test_an_issued_key_authenticates_its_owner(prefix: Prefix) -> None:
    key = issue_api_key(SECRET, prefix, KEY_ID)
    assert (len(key), key[:9], key[9:41]) == (73, prefix, KEY_ID.hex())
    assert KeyRing(SECRET).authenticate(f"Bearer {key}") == Caller(KEY_ID)


@pytest.mark.parametrize("prefix", PREFIXES)
def test_one_flipped_bit_anywhere_in_a_key_invalidates_it(prefix: Prefix) -> None:
    ring, key = KeyRing(SECRET), issue_api_key(SECRET, prefix, KEY_ID)
    data = bytes.fromhex(key[9:])
    for bit in range(256):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        _error_of(ring, f"Bearer {prefix}{flipped.hex()}")


def test_one_flipped_bit_anywhere_in_the_header_invalidates_it() -> None:
    """Except for the case of the scheme, which is free."""
    header = f"Bearer {issue_api_key(SECRET, 'sgk_live_', KEY_ID)}"
    opened = []
    for at in range(len(header)):
        for bit in range(8):
            spoilt = header[:at] + chr(ord(header[at]) ^ 1 << bit) + header[at + 1 :]
            try:
                KeyRing(SECRET).authenticate(spoilt)
            except Unauthorized:
                continue
            opened.append((at, bit))
    assert opened == [(at, 5) for at in range(6)]


def test_a_key_is_valid_for_one_server_only() -> None:
    _error_of(KeyRing(bytes(32)), f"Bearer {issue_api_key(SECRET, 'sgk_live_', KEY_ID)}")


@pytest.mark.parametrize("length", [0, 8, 15, 17, 32])
def test_an_id_of_another_length_is_not_issued(length: int) -> None:
    with pytest.raises(ValueError, match="16 bytes"):
        issue_api_key(SECRET, "sgk_live_", bytes(length))


@pytest.mark.parametrize(
    "revocation",
    ["", "0001020", "0" * 33, "0001020G", "00010203 ", "00010203\n", "ABCDEF01", "٠٠٠٠٠٠٠٠", "sgk_live_", "0x010203"],
    ids=ascii,
)
def test_a_malformed_revocation_stops_the_start(revocation: str) -> None:
    """If it were accepted, the operator would take a valid key for revoked; the empty one would revoke all keys."""
    with pytest.raises(ValueError, match="8 to 32"):
        KeyRing(SECRET, revoked=["00010203", revocation])


def test_every_preset_key_is_its_own_owner() -> None:
    keys = [f"preset key number {number}, which is long enough" for number in range(20)]
    ring = KeyRing(SECRET, preset=keys)
    owners = [ring.authenticate(f"Bearer {key}").owner for key in keys]
    assert owners == [preset_owner(key) for key in keys]
    assert len(set(owners)) == 20
    assert {len(owner) for owner in owners} == {16}


def test_iterators_are_read_once_and_kept() -> None:
    preset = "p" * 32
    ring = KeyRing(SECRET, preset=iter([preset]), revoked=iter([KEY_ID.hex()]))
    for _ in range(2):
        assert ring.authenticate(f"Bearer {preset}").owner == preset_owner(preset)
        _error_of(ring, f"Bearer {issue_api_key(SECRET, 'sgk_live_', KEY_ID)}")


def test_the_repr_of_a_key_ring_shows_no_key() -> None:
    preset = "a-preset-key-that-must-not-be-printed"
    ring = KeyRing(SECRET, preset=[preset], revoked=["00010203"])
    shown: list[Any] = [ring, pickle.loads(pickle.dumps(ring)), [ring], {"ring": ring}]  # noqa: S301
    for text in [str(ring), *map(repr, shown)]:
        assert preset not in text
        assert SECRET.hex() not in text
        assert repr(SECRET)[2:-1] not in text


def test_an_error_does_not_contain_the_header() -> None:
    key = issue_api_key(SECRET, "sgk_live_", KEY_ID)
    for raised in (_error_of(KeyRing(bytes(32)), f"Bearer {key}"), _error_of(KeyRing(SECRET), f"Basic {key}")):
        assert key[9:] not in str(raised) + repr(raised) + repr(raised.details)


def test_only_valid_keys_are_remembered_and_no_more_than_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api_key, "_MAX_KNOWN", 4)
    secret, tags = bytes(32), 0
    compute = api_key._tag

    def counted(*arguments: Any) -> bytes:
        nonlocal tags
        tags += 1
        return compute(*arguments)

    monkeypatch.setattr(api_key, "_tag", counted)
    keys = [api_key.issue_api_key(secret, "sgk_test_", bytes([number]) * 16) for number in range(6)]
    ring, tags = api_key.KeyRing(secret), 0
    for _ in range(3):
        assert ring.authenticate(f"Bearer {keys[0]}").owner == bytes(16)
    assert tags == 1
    for attempt in range(3):
        with pytest.raises(Unauthorized):
            ring.authenticate(f"Bearer {keys[1][:-1]}{'1' if keys[1][-1] == '0' else '0'}")
        assert tags == 2 + attempt
    for number, key in enumerate(keys):
        assert ring.authenticate(f"Bearer {key}").owner == bytes([number]) * 16
        assert len(ring._known) <= 4
    revoking = api_key.KeyRing(secret, revoked=["00" * 16])
    with pytest.raises(Unauthorized):
        revoking.authenticate(f"Bearer {keys[0]}")
